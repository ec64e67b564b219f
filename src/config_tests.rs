use super::*;
use crate::sql::parse;

fn settings(sql: &str, overrides: &[(&str, &str)]) -> Result<Settings> {
    let script = parse("jobs/a.b.sql", sql, &|_| None)?;
    let overrides: Vec<_> = overrides
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    Settings::from_script(&script, &overrides)
}

#[test]
fn defaults_need_no_setting() {
    let settings = settings("", &[]).unwrap();
    assert_eq!(
        settings,
        Settings {
            name: "a.b".to_owned(),
            checkpoint_interval: Duration::from_secs(10),
            checkpoint_dir: "./checkpoints/a.b".to_owned(),
            parallelism: None,
            idle_timeout: Some(Duration::from_secs(30)),
            max_future: Duration::from_secs(86_400),
            memory: 384 << 20,
            dead_letters_path: None,
            max_drift: Duration::from_secs(300),
            allow_dropped_state: false,
            encryption: Encryption::default(),
            glue: Glue {
                database: None,
                dead_letters_table: "dead_letters".to_owned(),
                crawler: None,
                crawler_min_interval: Duration::from_secs(600),
                crawler_start: CrawlerStart::NewFiles,
                crawler_role: None,
                crawler_schedule: None,
            },
            warnings: Vec::new(),
        }
    );
}

#[test]
fn the_command_line_wins() {
    let settings = settings(
        "SET 'state.checkpoints.dir' = '/a'; SET 'parallelism.default' = '2'; SET 'tributary.memory' = '1 gb';
         SET 'table.exec.source.idle-timeout' = '0'; SET 'execution.runtime-mode' = 'STREAMING';",
        &[("parallelism.default", "3"), ("execution.checkpointing.dir", "/b")],
    )
    .unwrap();
    assert_eq!(settings.checkpoint_dir, "/b");
    assert_eq!(settings.parallelism, Some(3));
    assert_eq!(settings.memory, 1 << 30);
    assert_eq!(settings.idle_timeout, None);
}

#[test]
fn the_name_is_that_of_a_folder() {
    for name in [".", "..", "a/b", "../a", "a\\b"] {
        let sql = format!("\nSET 'pipeline.name' = '{name}';");
        let error = settings(&sql, &[]).unwrap_err().to_string();
        assert!(error.starts_with("jobs/a.b.sql:2:"), "{error}");
        assert!(error.contains(&format!("cannot be '{name}'")), "{error}");
        let error = settings("", &[("pipeline.name", name)]).unwrap_err();
        assert!(error.to_string().contains("pipeline.name"), "{error}");
    }
    let kept = settings("SET 'pipeline.name' = '..a b.';", &[]).unwrap();
    assert_eq!(kept.checkpoint_dir, "./checkpoints/..a b.");
}

#[test]
fn an_empty_name_in_the_catalog_is_none() {
    let glue = |sql| settings(sql, &[]).unwrap().glue;
    assert_eq!(
        glue("SET 'tributary.glue.database' = '${GLUE_DATABASE:-}'").database,
        None
    );
    let glue = glue(
        "SET 'tributary.glue.database' = 'lake'; SET 'tributary.glue.crawler.start' = 'NEVER';
         SET 'tributary.glue.crawler.role' = '';",
    );
    assert_eq!(glue.database.as_deref(), Some("lake"));
    assert_eq!(glue.crawler_start, CrawlerStart::Never);
    assert_eq!(glue.crawler_role, None);
}

#[test]
fn what_has_no_effect_is_said() {
    let settings = settings(
        "SET 'pipeline.auto-watermark-interval' = '1 s';",
        &[("table.optimizer.join-reorder-enabled", "true")],
    )
    .unwrap();
    assert_eq!(
        settings.warnings,
        [
            "jobs/a.b.sql:1:1: 'pipeline.auto-watermark-interval' has no effect: each row makes a watermark",
            "by -D, an option or the environment: 'table.optimizer.join-reorder-enabled' has no effect: there is one optimiser",
        ]
    );
}

#[test]
fn bad_settings_are_refused() {
    for (sql, overrides, expected) in [
        (
            "\nSET 'pipeline.nam' = 'x'",
            None,
            "jobs/a.b.sql:2:1: there is no setting 'pipeline.nam'\n  hint: did you mean 'pipeline.name'?",
        ),
        (
            "SET 'table.local-time-zone' = 'Europe/Berlin'",
            None,
            "jobs/a.b.sql:1:1: 'table.local-time-zone' can only be 'UTC'\n  hint: other zones are not supported yet: convert where the table is read",
        ),
        (
            "SET 'execution.runtime-mode' = 'batch'",
            None,
            "jobs/a.b.sql:1:1: 'execution.runtime-mode' can only be 'streaming'\n  hint: use --bounded to read to the end and stop",
        ),
        (
            "SET 'execution.checkpointing.interval' = '0 s'",
            None,
            "jobs/a.b.sql:1:1: 'execution.checkpointing.interval' cannot be 0\n  hint: results become visible with each checkpoint",
        ),
        (
            "SET 'table.exec.state.ttl' = '1 d'",
            None,
            "jobs/a.b.sql:1:1: 'table.exec.state.ttl' is an option of Flink's that Tributary does not have yet\n  \
             hint: windows and interval joins forget by event time; what a GROUP BY or a ROW_NUMBER without a window holds is held for good",
        ),
        (
            "SET 'state.checkpoints.dir' = '/a';\nSET 'execution.checkpointing.dir' = '/b'",
            None,
            "jobs/a.b.sql:2:1: 'execution.checkpointing.dir' is set twice\n  hint: it is also set at 1:1, by one of its names",
        ),
        (
            "SET 'tributary.s3.encryption' = 'sse-s3';\nSET 'tributary.s3.kms-key-id' = 'k'",
            None,
            "jobs/a.b.sql:2:1: 'tributary.s3.kms-key-id' is for encryption with a key of KMS\n  \
             hint: set 'tributary.s3.encryption' = 'sse-kms' too",
        ),
        (
            "SET 'tributary.glue.crawler.schedule' = 'cron(15 12 * * ? *)'",
            None,
            "jobs/a.b.sql:1:1: 'tributary.glue.crawler.schedule' is for a crawler that is created, which needs 'tributary.glue.crawler.role'\n  \
             hint: set the role too; the schedule of a crawler that is there already is left as it is",
        ),
        (
            "SET 'parallelism.default' = '5000'",
            None,
            "jobs/a.b.sql:1:1: 'parallelism.default' cannot be more than 1024\n  \
             hint: a lane for each core is enough, which is what is there when it is left out",
        ),
        (
            "SET 'execution.checkpointing.dir' = 's4://bucket/x'",
            None,
            "jobs/a.b.sql:1:1: 's4://bucket/x' is not a value for 'execution.checkpointing.dir'\n  \
             hint: it has to be a local path, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or memory://name",
        ),
        (
            "",
            Some(("tributary.memory", "1 KB")),
            "by -D, an option or the environment: 'tributary.memory' cannot be less than 16 MB\n  \
             hint: queues and open files share it; with little of it files are many and small",
        ),
        (
            "",
            Some(("tributary.memory", "much")),
            "by -D, an option or the environment: 'much' is not a value for 'tributary.memory'\n  hint: it has to be a size, for example '128 MB'",
        ),
    ] {
        let overrides: Vec<_> = overrides.into_iter().collect();
        assert_eq!(settings(sql, &overrides).unwrap_err().to_string(), expected);
    }
}
