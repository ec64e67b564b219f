//! What each demo is: a job of `jobs/`, who makes its events, and what is worth a look.

use crate::generate::System;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// A job that can be shown.
#[derive(Debug)]
pub struct Demo {
    /// The name of its file in `jobs/`, without the ending.
    pub name: &'static str,
    /// A shorter name that is taken for it.
    pub alias: Option<&'static str>,
    /// The job itself, so that a binary alone can show it.
    pub sql: &'static str,
    pub system: System,
    pub fed: Fed,
    /// Events a second, where the user does not say: so many as such a system has, for one that is busy.
    pub rate: u64,
    /// Event time between two readings (see `GenerateOptions`), where it matters how many events a minute has.
    pub step_ms: Option<i64>,
    /// Patients, customers or users. A partition that none of them is in would hold time back.
    pub keys: u64,
    /// The table whose watermark is shown, where the job has event time.
    pub clock: Option<&'static str>,
    /// The tables whose rows are counted on the screen.
    pub counted: &'static [&'static str],
    pub newest: Option<Newest>,
    /// What to ask the lake, without its address.
    pub queries: &'static [&'static str],
}

/// Where the job reads its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fed {
    Topics,
    /// New files in the folder `ENTRIES`.
    Files,
}

/// A row that is shown as soon as it is published: the last one of a Parquet table.
#[derive(Debug)]
pub struct Newest {
    pub what: &'static str,
    pub table: &'static str,
    pub columns: &'static [&'static str],
    /// A column that has to be false in it.
    pub unless: Option<&'static str>,
}

pub static DEMOS: [Demo; 6] = [
    Demo {
        name: "emergency",
        alias: None,
        sql: include_str!("../../../jobs/emergency.sql"),
        system: System::Emergency,
        fed: Fed::Topics,
        rate: 2000,
        step_ms: None,
        keys: 20,
        // The vehicles are few, and their partitions are often idle.
        clock: Some("patient_readings"),
        counted: &["breaches", "vitals_1m", "emergency_responses"],
        newest: Some(Newest {
            what: "last unanswered",
            table: "emergency_responses",
            columns: &["patient_id", "breach_time", "severity"],
            unless: Some("answered"),
        }),
        queries: &[
            "SELECT severity, answered, count(DISTINCT breach_id) AS breaches, round(avg(seconds_to_arrival) / 60) AS minutes \
             FROM emergency_responses GROUP BY severity, answered ORDER BY severity, answered",
        ],
    },
    Demo {
        name: "medical-publish",
        alias: None,
        sql: include_str!("../../../jobs/medical-publish.sql"),
        system: System::Medical,
        fed: Fed::Files,
        rate: 100,
        step_ms: None,
        keys: 100,
        clock: None,
        counted: &["entries", "dlq"],
        newest: None,
        queries: &[],
    },
    Demo {
        name: "medical-entries",
        alias: Some("medical"),
        sql: include_str!("../../../jobs/medical-entries.sql"),
        system: System::Medical,
        fed: Fed::Topics,
        rate: 100,
        step_ms: None,
        keys: 100,
        clock: None,
        counted: &["medical_entries", "processed_entries", "dlq"],
        newest: Some(Newest {
            what: "last entry",
            table: "medical_entries",
            columns: &["patient_id", "medical_entry"],
            unless: None,
        }),
        queries: &[
            "SELECT patient_id, count(*) AS entries FROM medical_entries GROUP BY patient_id ORDER BY entries DESC LIMIT 5",
        ],
    },
    Demo {
        name: "retail",
        alias: None,
        sql: include_str!("../../../jobs/retail.sql"),
        system: System::Retail,
        fed: Fed::Topics,
        rate: 2000,
        step_ms: None,
        keys: 100,
        clock: Some("sales"),
        counted: &["sales_events", "aggregated_data", "totals", "alerts"],
        newest: Some(Newest {
            what: "last sale",
            table: "sales_events",
            columns: &["product_id", "quantity", "total_amount", "store_id"],
            unless: None,
        }),
        queries: &[
            "SELECT category, count(*) AS sales, sum(quantity) AS pieces, sum(total_amount) AS amount \
             FROM sales GROUP BY category ORDER BY amount DESC",
            "SELECT activity_type, count(*) AS activities, count(DISTINCT user_id) AS customers \
             FROM user_activity GROUP BY activity_type ORDER BY activities DESC",
        ],
    },
    Demo {
        name: "login-analytics",
        alias: Some("login"),
        sql: include_str!("../../../jobs/login-analytics.sql"),
        system: System::Login,
        fed: Fed::Topics,
        rate: 50,
        // Six logins a minute: a burst of them is an anomaly then.
        step_ms: Some(10),
        keys: 100,
        clock: Some("logins"),
        counted: &["user_login", "anomalies"],
        newest: Some(Newest {
            what: "last anomaly",
            table: "anomalies",
            columns: &["window_start", "logins", "users"],
            unless: None,
        }),
        queries: &[
            "SELECT window_start, logins, users, threshold FROM login_anomalies ORDER BY logins DESC LIMIT 5",
            "SELECT locale, count(*) AS logins FROM user_login GROUP BY locale ORDER BY logins DESC",
        ],
    },
    Demo {
        name: "login-privacy",
        alias: None,
        sql: include_str!("../../../jobs/login-privacy.sql"),
        system: System::Login,
        fed: Fed::Topics,
        rate: 200,
        step_ms: None,
        keys: 100,
        clock: None,
        counted: &["processed_output", "cleaned_data", "errors", "summary"],
        newest: Some(Newest {
            what: "last login",
            table: "masked_login",
            columns: &["app_version", "locale", "ip"],
            unless: None,
        }),
        queries: &[
            "SELECT app_version, count(*) AS logins, count(DISTINCT ip) AS addresses FROM masked_login GROUP BY app_version ORDER BY app_version",
        ],
    },
];

impl Demo {
    fn named(name: &str) -> Option<&'static Demo> {
        DEMOS
            .iter()
            .find(|demo| demo.name == name || demo.alias == Some(name))
    }

    /// Where the job is in the repository.
    pub fn path(&self) -> String {
        format!("jobs/{}.sql", self.name)
    }
}

/// Takes the names of demos, and lists them in the help and where a name is wrong.
pub fn parser() -> impl TypedValueParser<Value = &'static Demo> {
    let name = |demo: &Demo| PossibleValue::new(demo.name).aliases(demo.alias);
    PossibleValuesParser::new(DEMOS.iter().map(name))
        .try_map(|name| Demo::named(&name).ok_or_else(|| format!("there is no demo of '{name}'")))
}
