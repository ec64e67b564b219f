//! Functions of JSON texts.
//!
//! JSON_VALUE, JSON_QUERY and JSON_EXISTS come here as ordinary calls: what stands behind the path in the job, like NULL ON EMPTY, is
//! arguments (see `sql::json_forms`).

mod build;
mod path;
mod tree;

use super::Takes::{Any, Text};
use super::{Function, Gives, Values, text_rows, texts};
use arrow::array::{ArrayRef, BooleanArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use datafusion::logical_expr::ScalarFunctionArgs;
use path::Found;
pub use path::Path;
use std::sync::Arc;
use tree::{Json, parse};

pub(super) fn functions() -> Vec<Function> {
    let text = || Gives::Type(DataType::Utf8);
    let boolean = || Gives::Type(DataType::Boolean);
    vec![
        Function::new("json_value", &[Text; 6], text(), value),
        Function::new("json_query", &[Text; 4], text(), query),
        Function::new("json_exists", &[Text, Text, Text], boolean(), exists),
        Function::new("is_json", &[Text, Text], boolean(), is_json),
        Function::new(
            "json_object",
            &[Text, Any],
            Gives::Of(build::checked),
            build::object,
        )
        .variadic()
        .optional(1),
        Function::new(
            "json_array",
            &[Text, Any],
            Gives::Of(build::checked),
            build::array,
        )
        .variadic()
        .optional(1),
        Function::new(
            "json_string",
            &[Any],
            Gives::Of(build::checked),
            build::string,
        ),
        Function::new("json", &[Text], text(), |args| {
            let values = texts(args, 0)?;
            let mut bad = None;
            let column = text_rows(args, |row| {
                let text = values.get(row)?;
                let json = parse(text);
                if json.is_none() {
                    bad.get_or_insert_with(|| text.to_owned());
                }
                json.map(|json| json.text())
            })?;
            match bad {
                Some(bad) => exec_err!("'{bad}' is no JSON"),
                None => Ok(column),
            }
        }),
        Function::new("json_quote", &[Text], text(), |args| {
            let values = texts(args, 0)?;
            text_rows(args, |row| {
                Some(Json::Text(values.get(row)?.to_owned()).text())
            })
        }),
    ]
}

/// The path of a call: mostly one for all rows.
struct Paths {
    texts: Values<StringArray>,
    constant: Option<Path>,
}

impl Paths {
    fn new(args: &ScalarFunctionArgs) -> Result<Paths> {
        let texts = texts(args, 1)?;
        let constant = texts.constant().map(compiled).transpose()?;
        Ok(Paths { texts, constant })
    }

    fn get(&self, row: usize) -> Result<Option<Path>> {
        match &self.constant {
            Some(path) => Ok(Some(path.clone())),
            None => self.texts.get(row).map(compiled).transpose(),
        }
    }
}

fn compiled(path: &str) -> Result<Path> {
    Path::compile(path).map_err(|why| exec_datafusion_err!("{why}"))
}

/// How a path ended for one text.
enum Outcome {
    Found(Json),
    /// The path leads nowhere.
    Empty,
    /// The text is no JSON, or a strict path leads nowhere.
    Error,
}

fn follow(text: &str, path: &Path) -> Outcome {
    let Some(json) = parse(text) else {
        return Outcome::Error;
    };
    match path.find(json) {
        Found::One(json) => Outcome::Found(json),
        Found::Nothing if path.strict => Outcome::Error,
        Found::Nothing => Outcome::Empty,
    }
}

/// Arguments: text, path, on empty, its default, on error, its default.
fn value(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let (values, paths) = (texts(args, 0)?, Paths::new(args)?);
    let [on_empty, on_error] = [2, 4].map(|at| texts(args, at));
    let [empty, error] = [3, 5].map(|at| texts(args, at));
    let (on_empty, on_error, empty, error) = (on_empty?, on_error?, empty?, error?);
    let mut rows = Vec::with_capacity(args.number_rows);
    for row in 0..args.number_rows {
        let (Some(text), Some(path)) = (values.get(row), paths.get(row)?) else {
            rows.push(None);
            continue;
        };
        let (behaviour, default, what) = match follow(text, &path) {
            Outcome::Found(Json::Text(text)) => {
                rows.push(Some(text));
                continue;
            }
            Outcome::Found(json) if json.is_scalar() && json != Json::Null => {
                rows.push(Some(json.text()));
                continue;
            }
            Outcome::Empty => (&on_empty, &empty, "is empty"),
            _ => (&on_error, &error, "is no single value"),
        };
        match behaviour.get(row) {
            Some("DEFAULT") => rows.push(default.get(row).map(str::to_owned)),
            Some("ERROR") => {
                return exec_err!("JSON_VALUE {what} in '{text}', and the job says ERROR");
            }
            _ => rows.push(None),
        }
    }
    Ok(Arc::new(StringArray::from(rows)))
}

/// Arguments: text, path, wrapper, on error.
fn query(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let (values, paths) = (texts(args, 0)?, Paths::new(args)?);
    let (wrappers, on_error) = (texts(args, 2)?, texts(args, 3)?);
    let mut rows = Vec::with_capacity(args.number_rows);
    for row in 0..args.number_rows {
        let (Some(text), Some(path)) = (values.get(row), paths.get(row)?) else {
            rows.push(None);
            continue;
        };
        let wrap = |json: Json| Json::Array(vec![json]);
        let found = match (follow(text, &path), wrappers.get(row)) {
            (Outcome::Empty, _) => Some(None),
            (Outcome::Error | Outcome::Found(Json::Null), _) => None,
            (Outcome::Found(json), Some("ALWAYS")) => Some(Some(wrap(json))),
            (Outcome::Found(json), Some("CONDITIONAL")) => Some(Some(match json {
                Json::Array(_) => json,
                other => wrap(other),
            })),
            (Outcome::Found(json), _) if json.is_scalar() => None,
            (Outcome::Found(json), _) => Some(Some(json)),
        };
        rows.push(match (found, on_error.get(row)) {
            (Some(found), _) => found.map(|json| json.text()),
            (None, Some("ARRAY")) => Some("[]".to_owned()),
            (None, Some("OBJECT")) => Some("{}".to_owned()),
            (None, Some("ERROR")) => {
                return exec_err!(
                    "JSON_QUERY finds no array or object in '{text}', and the job says ERROR"
                );
            }
            (None, _) => None,
        });
    }
    Ok(Arc::new(StringArray::from(rows)))
}

/// Arguments: text, path, on error.
fn exists(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let (values, paths, on_error) = (texts(args, 0)?, Paths::new(args)?, texts(args, 2)?);
    let mut rows = Vec::with_capacity(args.number_rows);
    for row in 0..args.number_rows {
        let (Some(text), Some(path)) = (values.get(row), paths.get(row)?) else {
            rows.push(None);
            continue;
        };
        rows.push(match (follow(text, &path), on_error.get(row)) {
            (Outcome::Found(json), _) => Some(json != Json::Null),
            (Outcome::Empty, _) => Some(false),
            (Outcome::Error, Some("TRUE")) => Some(true),
            (Outcome::Error, Some("UNKNOWN")) => None,
            (Outcome::Error, Some("ERROR")) => {
                return exec_err!(
                    "JSON_EXISTS cannot follow the path in '{text}', and the job says ERROR"
                );
            }
            (Outcome::Error, _) => Some(false),
        });
    }
    Ok(Arc::new(BooleanArray::from(rows)))
}

/// Arguments: text, what kind of JSON. NULL is none.
fn is_json(args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    let (values, kinds) = (texts(args, 0)?, texts(args, 1)?);
    let rows = (0..args.number_rows).map(|row| {
        let json = values.get(row).and_then(parse);
        Some(json.is_some_and(|json| match kinds.get(row) {
            Some("ARRAY") => matches!(json, Json::Array(_)),
            Some("OBJECT") => matches!(json, Json::Object(_)),
            Some("SCALAR") => json.is_scalar(),
            _ => true,
        }))
    });
    Ok(Arc::new(rows.collect::<BooleanArray>()))
}

#[cfg(test)]
mod tests;
