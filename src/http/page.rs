//! The one page: plain HTML with everything in it.
//!
//! The server fills in every number, so the page is whole without a script. Each cell also says where in `/api/status` its
//! number stands and how it is written; a few lines of script refill the cells each second, and load the page
//! again when a row has come or gone. So there is one list of what is shown, and it is here.

use super::{State, Status};
use serde_json::Value;
use std::fmt::Write;

/// How a number is written; the script knows the same words.
#[derive(Clone, Copy)]
enum As {
    Text,
    Count,
    /// A count, and how fast it grows, which only the script can tell.
    Rate,
    Bytes,
    /// A moment of event time.
    Time,
    /// How long ago a moment was.
    Age,
    Millis,
    /// A mark where it is true.
    Flag,
}

impl As {
    fn word(self) -> &'static str {
        match self {
            As::Text => "text",
            As::Count => "count",
            As::Rate => "rate",
            As::Bytes => "bytes",
            As::Time => "time",
            As::Age => "age",
            As::Millis => "millis",
            As::Flag => "flag",
        }
    }

    fn write(self, value: &Value, now_ms: i64) -> String {
        let number = value.as_i64();
        match (self, number) {
            (As::Flag, _) => if value == &Value::Bool(true) {
                "yes"
            } else {
                ""
            }
            .to_owned(),
            (As::Text, _) => match value {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            },
            (_, None) => "–".to_owned(),
            (As::Count | As::Rate, Some(number)) => grouped(number),
            (As::Bytes, Some(number)) => size(number),
            (As::Time, Some(number)) => crate::time::EventTime(number).to_string(),
            (As::Age, Some(number)) => format!(
                "{} s ago",
                grouped(now_ms.saturating_sub(number).max(0) / 1000)
            ),
            (As::Millis, Some(number)) => format!("{} ms", grouped(number)),
        }
    }
}

type Cells = &'static [(&'static str, &'static str, As)];

const JOB: Cells = &[
    ("State", "/state", As::Text),
    ("", "/message", As::Text),
    ("Epoch", "/epoch", As::Count),
    ("Committed", "/committed_at_ms", As::Age),
    ("Commit took", "/commit_ms", As::Millis),
    ("Buffered", "/buffered_bytes", As::Bytes),
    ("Memory budget", "/memory_limit_bytes", As::Bytes),
    ("Process", "/resident_bytes", As::Bytes),
];

const SOURCES: Cells = &[
    ("Records", "/records", As::Rate),
    ("Rows", "/rows", As::Count),
    ("Accepted", "/accepted", As::Count),
    ("No value", "/null", As::Count),
    ("Malformed", "/malformed", As::Count),
    ("Ignored", "/ignored", As::Count),
    ("Refused", "/refused", As::Count),
];

const SPLITS: Cells = &[
    ("Table", "/source", As::Text),
    ("Topic", "/topic", As::Text),
    ("Partition", "/partition", As::Count),
    ("Next offset", "/offset", As::Count),
    ("Lag", "/lag", As::Count),
    ("Watermark", "/watermark_ms", As::Time),
    ("Idle", "/idle", As::Flag),
    ("Paused", "/paused", As::Flag),
    ("Finished", "/finished", As::Flag),
];

const NODES: Cells = &[
    ("Operator", "/node", As::Text),
    ("Watermark", "/watermark_ms", As::Time),
    ("State", "/state_bytes", As::Bytes),
];

const OPERATORS: Cells = &[
    ("Rows in", "/rows_in", As::Rate),
    ("Used", "/used", As::Count),
    ("Filtered", "/filtered", As::Count),
    ("Late", "/late", As::Count),
];

const SINKS: Cells = &[
    ("Written", "/written", As::Rate),
    ("Published", "/published", As::Count),
    ("In open files", "/carried", As::Count),
    ("Rejected", "/rejected", As::Count),
    ("Files", "/files", As::Count),
    ("Bytes", "/bytes", As::Bytes),
];

const LETTERS: Cells = &[
    ("Source", "/source", As::Text),
    ("Reason", "/reason", As::Text),
    ("Letters", "/count", As::Count),
];

const CATALOG: Cells = &[
    ("Registered as", "/registered_as", As::Text),
    ("To register", "/unregistered", As::Count),
    ("Incomplete", "/incomplete", As::Count),
    ("Without success file", "/without_success", As::Count),
    ("Registered", "/registered", As::Count),
    ("Success files", "/succeeded", As::Count),
];

const CRAWLERS: Cells = &[
    ("State", "/state", As::Text),
    ("Last run", "/last_status", As::Text),
    ("Started", "/started_ms", As::Age),
    ("To be started", "/owed", As::Flag),
    ("Starts", "/starts", As::Count),
];

const TROUBLES: Cells = &[("What does not work", "", As::Text)];

/// The page for this moment.
pub fn render(status: &Status, now_ms: i64) -> String {
    let Ok(status_json) = serde_json::to_value(status) else {
        return "the status cannot be written as JSON".to_owned();
    };
    let mut page = Page {
        html: String::new(),
        status: status_json,
        now_ms,
    };
    let job = escaped(&status.job);
    page.push(&format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{job} – Tributary</title><style>{STYLE}</style></head>\n\
         <body data-state=\"{}\"><h1>{job}</h1>\n<dl>",
        word(status.state)
    ));
    for (name, pointer, form) in JOB {
        page.push(&format!("<div><dt>{name}</dt>"));
        page.cell("dd", pointer, *form);
        page.push("</div>");
    }
    page.push("</dl>\n");
    page.table("Read", Some("Table"), "/ledger/sources", SOURCES);
    page.table("Splits", None, "/splits", SPLITS);
    page.table(
        "Operators",
        Some("Operator"),
        "/ledger/operators",
        OPERATORS,
    );
    page.table("State", None, "/operators", NODES);
    page.table("Written", Some("Table"), "/ledger/sinks", SINKS);
    page.table("Dead letters", None, "/dead_letters", LETTERS);
    page.table("Catalog", Some("Table"), "/catalog/tables", CATALOG);
    page.table("Crawlers", Some("Crawler"), "/catalog/crawlers", CRAWLERS);
    page.table("Catalog troubles", None, "/catalog/troubles", TROUBLES);
    page.push("<p><a href=\"/metrics\">metrics</a> <a href=\"/api/status\">status</a> <a href=\"/health\">health</a></p>\n");
    page.push(&format!("<script>{SCRIPT}</script></body></html>\n"));
    page.html
}

pub fn word(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Waiting => "waiting",
        State::Running => "running",
        State::Finished => "finished",
        State::Failed => "failed",
    }
}

struct Page {
    html: String,
    status: Value,
    now_ms: i64,
}

impl Page {
    fn push(&mut self, html: &str) {
        self.html.push_str(html);
    }

    /// A table with a row for each member of an object or array; an object's keys are a column of their own.
    fn table(&mut self, title: &str, key_heading: Option<&str>, pointer: &str, cells: Cells) {
        let keys: Vec<String> = match self.status.pointer(pointer) {
            Some(Value::Object(members)) => members.keys().cloned().collect(),
            Some(Value::Array(items)) => (0..items.len()).map(|at| at.to_string()).collect(),
            _ => Vec::new(),
        };
        // An empty table is there for the script, so that it sees the first row come.
        let hidden = if keys.is_empty() { " hidden" } else { "" };
        self.push(&format!("<section data-rows=\"{pointer}\" data-count=\"{}\"{hidden}><h2>{title}</h2><div><table><tr>", keys.len()));
        let headings = key_heading.map(|heading| (heading, As::Text)).into_iter();
        for (heading, form) in headings.chain(cells.iter().map(|(name, _, form)| (*name, *form))) {
            self.push(&format!("<th data-as=\"{}\">{heading}</th>", form.word()));
        }
        self.push("</tr>\n");
        for key in keys {
            self.push("<tr>");
            if key_heading.is_some() {
                self.push(&format!("<td data-as=\"text\">{}</td>", escaped(&key)));
            }
            let row = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
            for (_, member, form) in cells {
                self.cell("td", &format!("{row}{member}"), *form);
            }
            self.push("</tr>\n");
        }
        self.push("</table></div></section>\n");
    }

    fn cell(&mut self, tag: &str, pointer: &str, form: As) {
        let value = self.status.pointer(pointer).unwrap_or(&Value::Null);
        let text = escaped(&form.write(value, self.now_ms));
        let (at, form) = (escaped(pointer), form.word());
        // Writing into a String cannot fail.
        let _ = write!(
            self.html,
            "<{tag} data-at=\"{at}\" data-as=\"{form}\">{text}</{tag}>"
        );
    }
}

/// Text that means itself inside an element or a quoted attribute.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// 1234567 as `1,234,567`.
fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn size(bytes: i64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

const STYLE: &str = "
:root{color-scheme:light dark;--line:#d8dee4;--soft:#59636e;--good:#1a7f37;--bad:#cf222e;--wait:#9a6700}
@media(prefers-color-scheme:dark){:root{--line:#30363d;--soft:#9198a1;--good:#3fb950;--bad:#f85149;--wait:#d29922}}
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 1rem}h2{font-size:1rem;margin:2rem 0 .25rem}
dl{display:flex;flex-wrap:wrap;gap:1rem 2.5rem;margin:0}dt{color:var(--soft);font-size:.85rem}dd{margin:0;font-size:1.15rem}
div:has(>dd:empty){display:none}
[data-state=running] [data-at='/state']{color:var(--good)}[data-state=failed] [data-at='/state']{color:var(--bad)}
[data-state=waiting] [data-at='/state'],[data-state=starting] [data-at='/state']{color:var(--wait)}
section>div{overflow-x:auto}table{border-collapse:collapse;width:100%}
th{color:var(--soft);font-weight:400;font-size:.85rem}th,td{text-align:right;padding:.25rem .75rem;border-bottom:1px solid var(--line);white-space:nowrap;font-variant-numeric:tabular-nums}
th[data-as=text],td[data-as=text]{text-align:left}th:first-child,td:first-child{padding-left:0}
small{color:var(--soft)}a{color:inherit;margin-right:1rem}p{margin:2rem 0;color:var(--soft)}.away{opacity:.4}
";

const SCRIPT: &str = r"
'use strict';
const count = n => n.toLocaleString('en-US');
const size = n => { let u = 0; while (n >= 1024 && u < 4) { n /= 1024; u++ } return u ? n.toFixed(1) + ' ' + ['', 'K', 'M', 'G', 'T'][u] + 'iB' : n + ' B' };
const forms = {
  text: v => v === null ? '' : String(v),
  flag: v => v ? 'yes' : '',
  count, rate: count, bytes: size,
  millis: n => count(n) + ' ms',
  age: n => count(Math.max(0, Math.floor((Date.now() - n) / 1000))) + ' s ago',
  time: n => Math.abs(n) > 8.64e15 ? (n < 0 ? 'none' : 'end') : new Date(n).toISOString().replace('T', ' ').replace('Z', ''),
};
const find = (o, at) => at.split('/').slice(1).reduce((o, k) => o?.[k.replaceAll('~1', '/').replaceAll('~0', '~')], o) ?? null;
let last = null, then = 0;
async function tick() {
  try {
    const status = await (await fetch('/api/status')).json(), now = performance.now();
    for (const s of document.querySelectorAll('[data-rows]'))
      if (Object.keys(find(status, s.dataset.rows) ?? {}).length !== Number(s.dataset.count)) return location.reload();
    document.body.dataset.state = status.state;
    for (const cell of document.querySelectorAll('[data-at]')) {
      const v = find(status, cell.dataset.at), as = cell.dataset.as;
      cell.textContent = v === null && as !== 'text' && as !== 'flag' ? '–' : forms[as](v);
      if (as === 'rate' && last && v !== null) {
        const speed = document.createElement('small');
        speed.textContent = ' ' + count(Math.round(1000 * Math.max(0, v - find(last, cell.dataset.at)) / (now - then))) + '/s';
        cell.append(speed);
      }
    }
    last = status; then = now;
    document.body.classList.remove('away');
  } catch { document.body.classList.add('away') }
  setTimeout(tick, 1000);
}
tick();
";

#[cfg(test)]
mod tests {
    use super::super::{DeadLetterCount, OperatorStatus, SplitStatus};
    use super::*;
    use crate::catalog::report::{CrawlerReport, TableReport};
    use crate::epoch::{OperatorBook, SinkBook, SourceBook};

    fn status() -> Status {
        let mut status = Status {
            job: "<script>alert('job')</script>".to_owned(),
            state: State::Running,
            epoch: 12_345,
            committed_at_ms: Some(1_000),
            buffered_bytes: 3 << 20,
            ..Status::default()
        };
        status.ledger.sources.insert(
            "a/b~c\"><img>".to_owned(),
            SourceBook {
                records: 7_654_321,
                ..Default::default()
            },
        );
        status.ledger.operators.insert(
            "window".to_owned(),
            OperatorBook {
                late: 4,
                ..Default::default()
            },
        );
        status.ledger.sinks.insert(
            "vitals_1m".to_owned(),
            SinkBook {
                published: 99,
                ..Default::default()
            },
        );
        status.splits.push(SplitStatus {
            topic: "t".to_owned(),
            watermark_ms: Some(0),
            ..Default::default()
        });
        status.operators.push(OperatorStatus {
            node: "window".to_owned(),
            ..Default::default()
        });
        status.dead_letters.push(DeadLetterCount {
            source: "s".to_owned(),
            reason: "late".to_owned(),
            count: 4,
        });
        let catalog = &mut status.catalog;
        catalog.troubles.push("it is <away>".to_owned());
        let report = TableReport {
            registered_as: Some("lake.vitals_1m".to_owned()),
            ..Default::default()
        };
        catalog.tables.insert("vitals_1m".to_owned(), report);
        catalog
            .crawlers
            .insert("nightly".to_owned(), CrawlerReport::default());
        status
    }

    #[test]
    fn every_number_is_there_without_a_script() {
        let html = render(&status(), 61_500);
        for text in [
            "12,345",
            "60 s ago",
            "3.0 MiB",
            "7,654,321",
            "1970-01-01 00:00:00.000",
            "vitals_1m",
            ">99<",
            ">lake.vitals_1m<",
            ">it is &lt;away&gt;<",
            "nightly",
        ] {
            assert!(html.contains(text), "{text}");
        }
        // Whatever a cell points to is in the status, so that the script finds it too.
        let json = serde_json::to_value(status()).unwrap();
        for cells in [
            SOURCES, SPLITS, NODES, OPERATORS, SINKS, LETTERS, CATALOG, CRAWLERS, TROUBLES,
        ] {
            assert!(!cells.is_empty());
        }
        for part in html.split("data-at=\"").skip(1) {
            let pointer = part
                .split('"')
                .next()
                .unwrap()
                .replace("&quot;", "\"")
                .replace("&gt;", ">")
                .replace("&lt;", "<");
            assert!(json.pointer(&pointer).is_some(), "{pointer}");
        }
    }

    #[test]
    fn names_cannot_break_out() {
        let html = render(&status(), 0);
        assert!(!html.contains("<script>alert") && !html.contains("<img>"));
        assert!(html.contains("&lt;script&gt;alert(&#39;job&#39;)"));
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        let html = render(&Status::default(), 0);
        assert!(
            !html.contains("http://") && !html.contains("https://") && !html.contains("@import")
        );
        assert_eq!(
            html.matches(" hidden><h2>").count(),
            9,
            "a table without rows is not shown"
        );
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(
            [
                grouped(0),
                grouped(-1_000),
                grouped(999),
                grouped(1_234_567)
            ],
            ["0", "-1,000", "999", "1,234,567"]
        );
        assert_eq!(
            [size(0), size(1023), size(1536), size(5 << 40)],
            ["0 B", "1023 B", "1.5 KiB", "5.0 TiB"]
        );
    }
}
