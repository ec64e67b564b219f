//! The connector `mongodb`: its options, what a collection can hold, and the text that says which indexes it has.

use super::super::options::{OptionSpec, Uses};
use super::super::refusal::{Parsed, Refusal, did_you_mean};
use super::super::types::flink_name;
use super::super::values::Kind;
use super::super::{ColumnKind, Table};
use super::stored_columns;
use arrow::datatypes::DataType;

/// The name of MongoDB's own key.
pub const ID: &str = "_id";
/// What documents of tables with a primary key have beside their columns: when they were written last, and when they were deleted.
pub const VERSION: &str = "_version";
pub const DELETED: &str = "_deleted";

const URI: &str = "uri";
pub const INDEXES: &str = "tributary.mongodb.indexes";

pub const CACHE: &str = "lookup.cache";
pub const PARTIAL: &str = "PARTIAL";
pub const CACHE_ROWS: &str = "lookup.partial-cache.max-rows";
pub const CACHE_WRITTEN: &str = "lookup.partial-cache.expire-after-write";
pub const CACHE_ACCESSED: &str = "lookup.partial-cache.expire-after-access";
pub const CACHE_MISSING: &str = "lookup.partial-cache.cache-missing-key";

pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        URI,
        Kind::Text,
        "the server, mongodb://user:password@host:27017/?.. or mongodb+srv://..",
    )
    .required(),
    OptionSpec::new("database", Kind::Text, "the database").required(),
    OptionSpec::new(
        "collection",
        Kind::Text,
        "the collection; it is made where it is not there",
    )
    .required(),
    OptionSpec::new(
        "sink.delivery-guarantee",
        Kind::OneOf(&["exactly-once", "at-least-once", "none"]),
        "how safely rows are deleted",
    )
    .default("exactly-once"),
    OptionSpec::new(
        "sink.buffer-flush.max-rows",
        Kind::Integer,
        "how many rows travel in one command (0: as many as fit)",
    )
    .default("1000"),
    OptionSpec::new("sink.buffer-flush.interval", Kind::Duration, "")
        .no_effect("rows are written once their epoch is committed"),
    OptionSpec::new("sink.max-retries", Kind::Integer, "")
        .no_effect("a server that is away is waited for, however long"),
    OptionSpec::new("sink.retry.interval", Kind::Duration, "")
        .no_effect("pauses grow from 100 ms to 10 s"),
    OptionSpec::new(
        INDEXES,
        Kind::List(';'),
        "indexes that the collection shall have, such as timestamp; store, total desc; unique user_id",
    ),
    OptionSpec::not_yet(
        "scan.*",
        "rows of a mongodb table can be looked up, not read as a stream",
    ),
    OptionSpec::new(
        CACHE,
        Kind::OneOf(&["NONE", PARTIAL]),
        "whether what was found is kept for the rows that come behind",
    )
    .default("NONE"),
    OptionSpec::new(
        CACHE_ROWS,
        Kind::Integer,
        "how many rows a cache holds; beyond that it forgets those that were not asked for the longest",
    ),
    OptionSpec::new(
        CACHE_WRITTEN,
        Kind::Duration,
        "after this long what was found is asked for again",
    ),
    OptionSpec::new(
        CACHE_ACCESSED,
        Kind::Duration,
        "after this long without a row that asks for it, it is forgotten",
    ),
    OptionSpec::new(
        CACHE_MISSING,
        Kind::Boolean,
        "whether it is kept, too, that a key has no row",
    )
    .default("true"),
    OptionSpec::new("lookup.max-retries", Kind::Integer, "")
        .no_effect("a server that is away is waited for, however long"),
    OptionSpec::new("lookup.retry.interval", Kind::Duration, "")
        .no_effect("pauses grow from 100 ms to 10 s"),
];

/// An index that a collection shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub unique: bool,
    /// Fields, and whether each is in descending order.
    pub fields: Vec<(String, bool)>,
}

/// Reads one of them: `unique a, b.c desc`.
pub fn index(text: &str) -> Result<Index, String> {
    let text = text.trim();
    let (unique, rest) = match text.split_once(char::is_whitespace) {
        Some((first, rest)) if first.eq_ignore_ascii_case("unique") => (true, rest),
        _ => (false, text),
    };
    let field = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        let descending = match words.as_slice() {
            [_] => false,
            [_, order] if order.eq_ignore_ascii_case("asc") => false,
            [_, order] if order.eq_ignore_ascii_case("desc") => true,
            _ => return Err(format!("'{}' is no field of an index", text.trim())),
        };
        Ok((words[0].to_owned(), descending))
    };
    let fields = rest
        .split(',')
        .map(field)
        .collect::<Result<Vec<_>, String>>()?;
    Ok(Index { unique, fields })
}

pub fn check(table: &Table, uses: Uses) -> Parsed<()> {
    let uri = table.options.text(URI).unwrap_or_default();
    if !["mongodb://", "mongodb+srv://"]
        .iter()
        .any(|scheme| uri.starts_with(scheme))
    {
        return Err(Refusal::new(
            table.option_place(URI),
            "'uri' has to begin with mongodb:// or mongodb+srv://",
        ));
    }
    for column in &table.columns {
        if let ColumnKind::Physical { data_type, .. } = &column.kind {
            check_name(table, &column.name, uses)
                .and_then(|()| check_type(data_type))
                .map_err(|(message, hint)| {
                    let message = format!("column '{}': {message}", column.name);
                    Refusal::new(column.place, message).hint(hint)
                })?;
            if table.primary_key.contains(&column.name) && !may_be_key(data_type) {
                let name = flink_name(data_type);
                return Err(Refusal::new(
                    column.place,
                    format!("the key's column '{}' is a {name}", column.name),
                )
                .hint("a key in MongoDB is made of texts, numbers, truth values and times"));
            }
        }
    }
    check_cache(table)?;
    check_indexes(table)
}

/// What is said of a cache must be of use, and the cache has to forget.
fn check_cache(table: &Table) -> Parsed<()> {
    let bounds = [CACHE_ROWS, CACHE_WRITTEN, CACHE_ACCESSED];
    let given = |key: &str| table.options.get(key).is_some();
    match table.options.text(CACHE) {
        Some(PARTIAL) if !bounds.into_iter().any(given) => Err(Refusal::new(
            table.option_place(CACHE),
            "a cache that never forgets would grow for ever, and never see a change",
        )
        .hint(format!(
            "add '{CACHE_ROWS}', '{CACHE_WRITTEN}' or '{CACHE_ACCESSED}'"
        ))),
        Some(PARTIAL) => Ok(()),
        _ => match bounds
            .into_iter()
            .chain([CACHE_MISSING])
            .find(|key| given(key))
        {
            Some(key) => Err(Refusal::new(
                table.option_place(key),
                format!("'{key}' is about a cache, and there is none"),
            )
            .hint(format!("add '{CACHE}' = '{PARTIAL}'"))),
            None => Ok(()),
        },
    }
}

type Told = (String, &'static str);

fn check_name(table: &Table, name: &str, uses: Uses) -> Result<(), Told> {
    let no = |message: String, hint| Err((message, hint));
    if name.starts_with('$') || name.contains(['.', '\0']) {
        return no(
            "no field can have this name".to_owned(),
            "leave out '.' and the '$' at the beginning",
        );
    }
    let keyed = !table.primary_key.is_empty();
    if keyed && [VERSION, DELETED].contains(&name) {
        return no(
            format!("documents of a table with a primary key have a field '{name}' of their own"),
            "give it another name",
        );
    }
    if name == ID && uses.written && table.primary_key != [ID] {
        return no(
            "'_id' is the key of a document".to_owned(),
            "declare PRIMARY KEY (_id) NOT ENFORCED, or give it another name",
        );
    }
    Ok(())
}

fn check_type(data_type: &DataType) -> Result<(), Told> {
    match data_type {
        DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) => Err((
            format!("MongoDB has no {}", flink_name(data_type)),
            "CAST it to STRING, or to TIMESTAMP; Flink's connector has none either",
        )),
        DataType::List(item) => check_type(item.data_type()),
        DataType::Struct(fields) => fields
            .iter()
            .try_for_each(|field| check_type(field.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields[0].data_type() == &DataType::Utf8 => {
                check_type(fields[1].data_type())
            }
            _ => Err((
                "the keys of a map become the names of fields".to_owned(),
                "make it a MAP<STRING, ..>",
            )),
        },
        _ => Ok(()),
    }
}

fn may_be_key(data_type: &DataType) -> bool {
    !data_type.is_nested() && !matches!(data_type, DataType::Binary)
}

fn check_indexes(table: &Table) -> Parsed<()> {
    let place = table.option_place(INDEXES);
    let columns = || stored_columns(table).chain([ID]);
    for text in table.options.list(INDEXES) {
        let index = index(&text).map_err(|message| {
            Refusal::new(place, message)
                .hint("write fields with , between them, each with desc or not, and unique before them or not")
        })?;
        for (field, _) in &index.fields {
            let column = field.split('.').next().unwrap_or_default();
            if !columns().any(|name| name == column) {
                return Err(Refusal::new(
                    place,
                    format!("there is no column '{column}' for an index"),
                )
                .hint(did_you_mean(column, columns())));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_read() {
        let read = |text: &str| index(text).map(|index| (index.unique, index.fields));
        let field = |name: &str, descending| (name.to_owned(), descending);
        assert_eq!(
            read(" timestamp "),
            Ok((false, vec![field("timestamp", false)]))
        );
        assert_eq!(
            read("a, b.c DESC"),
            Ok((false, vec![field("a", false), field("b.c", true)]))
        );
        assert_eq!(read("unique a asc"), Ok((true, vec![field("a", false)])));
        // A column may have that name.
        assert_eq!(read("unique"), Ok((false, vec![field("unique", false)])));
        for wrong in ["", "a,,b", "a down", "unique a b"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
