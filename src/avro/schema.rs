//! A schema, from its JSON to a tree in which every name has been found.

use arrow::datatypes::TimeUnit;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// A schema, complete by itself. Types with names lie in a list of their own, for they may hold themselves.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    pub root: Type,
    named: Vec<Named>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    Null,
    Boolean,
    Int(Meaning),
    Long(Meaning),
    Float,
    Double,
    Bytes(Meaning),
    String,
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    /// Its number in the list of those with names.
    Named(usize),
}

/// What a number or bytes stand for: Avro's logical type. One that is unknown, or not for this type, says nothing, as the specification
/// wants it. Times with and without a zone are the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    Plain,
    Date,
    Time(TimeUnit),
    Timestamp(TimeUnit),
    Decimal {
        precision: u64,
        scale: i32,
    },
    /// Bytes that are a number, but not one that can be read here: what they say they are.
    Unclear(&'static str),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// With its namespace.
    pub name: String,
    pub definition: Definition,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Definition {
    Record(Vec<Field>),
    Enum(Vec<String>),
    Fixed { size: usize, meaning: Meaning },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub name: String,
    /// Names that writers may know it by.
    pub aliases: Vec<String>,
    pub of: Type,
    pub default: Option<Value>,
}

impl Schema {
    /// Reads a schema. `references` are the schemas whose names it uses, each behind those that it needs itself.
    pub fn parse(text: &str, references: &[String]) -> Result<Schema, String> {
        let mut parser = Parser::default();
        for reference in references {
            parser.document(reference)?;
        }
        let root = parser.document(text)?;
        Ok(Schema {
            root,
            named: parser.named,
        })
    }

    /// All types that have names.
    pub fn all_named(&self) -> &[Named] {
        &self.named
    }

    pub fn named(&self, number: usize) -> &Named {
        &self.named[number]
    }

    /// The fields of a record; nothing where it is something else.
    pub fn record(&self, of: &Type) -> Option<&[Field]> {
        match of {
            Type::Named(number) => match &self.named(*number).definition {
                Definition::Record(fields) => Some(fields),
                _ => None,
            },
            _ => None,
        }
    }

    /// The full name, of a type that has one.
    pub fn name(&self, of: &Type) -> Option<&str> {
        match of {
            Type::Named(number) => Some(&self.named(*number).name),
            _ => None,
        }
    }

    /// A type in words, for messages.
    pub fn describe(&self, of: &Type) -> String {
        let (word, meaning) = match of {
            Type::Null => return "null".to_string(),
            Type::Boolean => return "boolean".to_string(),
            Type::Float => return "float".to_string(),
            Type::Double => return "double".to_string(),
            Type::String => return "string".to_string(),
            Type::Array(item) => return format!("array of {}", self.describe(item)),
            Type::Map(value) => return format!("map of {}", self.describe(value)),
            Type::Union(branches) => {
                let branches: Vec<String> = branches.iter().map(|of| self.describe(of)).collect();
                return format!("[{}]", branches.join(", "));
            }
            Type::Int(meaning) => ("int", meaning),
            Type::Long(meaning) => ("long", meaning),
            Type::Bytes(meaning) => ("bytes", meaning),
            Type::Named(number) => {
                let Named { name, definition } = self.named(*number);
                match definition {
                    Definition::Record(_) => return format!("record {name}"),
                    Definition::Enum(_) => return format!("enum {name}"),
                    Definition::Fixed { meaning, .. } => ("fixed", meaning),
                }
            }
        };
        match meaning {
            Meaning::Plain => word.to_string(),
            Meaning::Date => format!("{word} (date)"),
            Meaning::Time(unit) => format!("{word} (time-{})", unit_word(*unit)),
            Meaning::Timestamp(unit) => format!("{word} (timestamp-{})", unit_word(*unit)),
            Meaning::Decimal { precision, scale } => {
                format!("{word} (decimal({precision}, {scale}))")
            }
            Meaning::Unclear(what) => format!("{word} ({what})"),
        }
    }
}

fn unit_word(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "seconds",
        TimeUnit::Millisecond => "millis",
        TimeUnit::Microsecond => "micros",
        TimeUnit::Nanosecond => "nanos",
    }
}

/// Whether Avro has such names.
pub fn is_name(name: &str) -> bool {
    let good = |(at, char): (usize, char)| {
        char == '_' || char.is_ascii_alphabetic() || (at > 0 && char.is_ascii_digit())
    };
    !name.is_empty() && name.chars().enumerate().all(good)
}

#[derive(Default)]
struct Parser {
    named: Vec<Named>,
    by_name: HashMap<String, usize>,
}

impl Parser {
    fn document(&mut self, text: &str) -> Result<Type, String> {
        let json: Value = match serde_json::from_str(text) {
            Ok(json) => json,
            // Some registries give a schema that is a single word as that word.
            Err(_) if is_name(text.trim()) => Value::String(text.trim().to_string()),
            Err(error) => return Err(format!("the schema is no JSON: {error}")),
        };
        self.of(&json, "")
    }

    fn of(&mut self, json: &Value, namespace: &str) -> Result<Type, String> {
        match json {
            Value::String(word) => self.word(word, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.of(branch, namespace));
                Ok(Type::Union(branches.collect::<Result<_, _>>()?))
            }
            Value::Object(object) => match object.get("type") {
                Some(Value::String(word)) => self.object(word, object, namespace),
                Some(inner) => self.of(inner, namespace),
                None => Err(format!("{json} has no 'type'")),
            },
            other => Err(format!("{other} is no schema")),
        }
    }

    fn object(
        &mut self,
        word: &str,
        object: &Map<String, Value>,
        namespace: &str,
    ) -> Result<Type, String> {
        let inner = |key: &str| {
            object
                .get(key)
                .ok_or_else(|| format!("the type '{word}' has no '{key}'"))
        };
        match word {
            "array" => Ok(Type::Array(Box::new(self.of(inner("items")?, namespace)?))),
            "map" => Ok(Type::Map(Box::new(self.of(inner("values")?, namespace)?))),
            "record" | "error" => {
                let fields = inner("fields")?
                    .as_array()
                    .ok_or("the fields of a record are no list")?;
                // Its name is known before its fields are: they may use it.
                let number = self.name(object, namespace, Definition::Record(Vec::new()))?;
                let own = namespace_of(&self.named[number].name).to_string();
                let fields = fields.iter().map(|field| self.field(field, &own));
                let fields = fields.collect::<Result<_, _>>()?;
                self.named[number].definition = Definition::Record(fields);
                Ok(Type::Named(number))
            }
            "enum" => {
                let symbols =
                    texts(inner("symbols")?).ok_or("the symbols of an enum are no list")?;
                let number = self.name(object, namespace, Definition::Enum(symbols))?;
                Ok(Type::Named(number))
            }
            "fixed" => {
                let size = inner("size")?
                    .as_u64()
                    .and_then(|n| usize::try_from(n).ok());
                let fixed = Definition::Fixed {
                    size: size.ok_or("the size of a fixed is no number")?,
                    meaning: decimal(object),
                };
                Ok(Type::Named(self.name(object, namespace, fixed)?))
            }
            _ => Ok(match self.word(word, namespace)? {
                Type::Int(_) => Type::Int(match logical(object) {
                    Some("date") => Meaning::Date,
                    Some("time-millis") => Meaning::Time(TimeUnit::Millisecond),
                    _ => Meaning::Plain,
                }),
                Type::Long(_) => Type::Long(match logical(object) {
                    Some("time-micros") => Meaning::Time(TimeUnit::Microsecond),
                    Some("timestamp-millis" | "local-timestamp-millis") => {
                        Meaning::Timestamp(TimeUnit::Millisecond)
                    }
                    Some("timestamp-micros" | "local-timestamp-micros") => {
                        Meaning::Timestamp(TimeUnit::Microsecond)
                    }
                    Some("timestamp-nanos" | "local-timestamp-nanos") => {
                        Meaning::Timestamp(TimeUnit::Nanosecond)
                    }
                    _ => Meaning::Plain,
                }),
                Type::Bytes(_) => Type::Bytes(decimal(object)),
                other => other,
            }),
        }
    }

    fn field(&mut self, json: &Value, namespace: &str) -> Result<Field, String> {
        let name = json.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| format!("the field {json} has no name"))?;
        let of = json
            .get("type")
            .ok_or_else(|| format!("the field '{name}' has no type"))?;
        Ok(Field {
            name: name.to_string(),
            aliases: json.get("aliases").and_then(texts).unwrap_or_default(),
            of: self
                .of(of, namespace)
                .map_err(|what| format!("field '{name}': {what}"))?,
            default: json.get("default").cloned(),
        })
    }

    /// Gives a definition its name, and a number.
    fn name(
        &mut self,
        object: &Map<String, Value>,
        namespace: &str,
        definition: Definition,
    ) -> Result<usize, String> {
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        let given = text("name").ok_or("a record, enum or fixed has no name")?;
        let name = full_name(given, text("namespace").unwrap_or(namespace));
        let number = self.named.len();
        if self.by_name.insert(name.clone(), number).is_some() {
            return Err(format!("the name '{name}' is given twice"));
        }
        self.named.push(Named { name, definition });
        Ok(number)
    }

    /// A simple type, or one that has been given this name.
    fn word(&self, word: &str, namespace: &str) -> Result<Type, String> {
        Ok(match word {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" => Type::Int(Meaning::Plain),
            "long" => Type::Long(Meaning::Plain),
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes(Meaning::Plain),
            "string" => Type::String,
            name => {
                let found = self.by_name.get(&full_name(name, namespace));
                let found = found.or_else(|| self.by_name.get(name));
                Type::Named(*found.ok_or_else(|| format!("there is no type '{name}'"))?)
            }
        })
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    match name.contains('.') || namespace.is_empty() {
        true => name.to_string(),
        false => format!("{namespace}.{name}"),
    }
}

fn namespace_of(full_name: &str) -> &str {
    full_name
        .rsplit_once('.')
        .map_or("", |(namespace, _)| namespace)
}

fn texts(json: &Value) -> Option<Vec<String>> {
    let texts = json.as_array()?.iter();
    texts
        .map(|text| text.as_str().map(str::to_string))
        .collect()
}

fn logical(object: &Map<String, Value>) -> Option<&str> {
    object.get("logicalType").and_then(Value::as_str)
}

fn decimal(object: &Map<String, Value>) -> Meaning {
    let number = |key: &str| object.get(key).and_then(Value::as_u64);
    let scale = match object.get("scale") {
        None => Some(0),
        Some(scale) => scale.as_u64().and_then(|scale| i32::try_from(scale).ok()),
    };
    match (logical(object), number("precision"), scale) {
        (Some("decimal"), Some(precision), Some(scale)) => Meaning::Decimal { precision, scale },
        // What it would be read as without them is anybody's guess.
        (Some("decimal"), ..) => {
            Meaning::Unclear("decimal without numbers for precision and scale")
        }
        (Some("big-decimal"), ..) => Meaning::Unclear("big-decimal"),
        _ => Meaning::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Schema, String> {
        Schema::parse(text, &[])
    }

    #[test]
    fn names_are_found_in_their_namespace() {
        let schema = parse(
            r#"{"type":"record","name":"a.b.Order","fields":[
                {"name":"place","type":{"type":"record","name":"Place","fields":[{"name":"lat","type":"double"}]}},
                {"name":"back","type":["null","Place"],"default":null},
                {"name":"kind","type":{"type":"enum","name":"Kind","namespace":"c","symbols":["A","B"]}},
                {"name":"again","type":"c.Kind"},
                {"name":"inner","type":["null","Order"]}]}"#,
        )
        .unwrap();
        let fields = schema.record(&schema.root).unwrap();
        let types: Vec<_> = fields
            .iter()
            .map(|field| schema.describe(&field.of))
            .collect();
        assert_eq!(
            types,
            [
                "record a.b.Place",
                "[null, record a.b.Place]",
                "enum c.Kind",
                "enum c.Kind",
                "[null, record a.b.Order]"
            ]
        );
        assert_eq!(schema.name(&schema.root), Some("a.b.Order"));
        assert_eq!(fields[1].default, Some(Value::Null));
        assert_eq!(fields[0].default, None);
    }

    #[test]
    fn logical_types_mean_what_the_specification_says() {
        for (text, expected) in [
            (r#"{"type":"int","logicalType":"date"}"#, "int (date)"),
            (
                r#"{"type":"int","logicalType":"time-millis"}"#,
                "int (time-millis)",
            ),
            (
                r#"{"type":"long","logicalType":"local-timestamp-micros"}"#,
                "long (timestamp-micros)",
            ),
            (
                r#"{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}"#,
                "bytes (decimal(10, 2))",
            ),
            (
                r#"{"type":"fixed","name":"f","size":4,"logicalType":"decimal","precision":9}"#,
                "fixed (decimal(9, 0))",
            ),
            (
                r#"{"type":"bytes","logicalType":"big-decimal"}"#,
                "bytes (big-decimal)",
            ),
            (
                r#"{"type":"bytes","logicalType":"decimal","precision":10,"scale":"2"}"#,
                "bytes (decimal without numbers for precision and scale)",
            ),
            // Not for this type, and unknown: the plain type is left.
            (r#"{"type":"int","logicalType":"timestamp-millis"}"#, "int"),
            (r#"{"type":"string","logicalType":"uuid"}"#, "string"),
            (
                r#"{"type":{"type":"array","items":"long"}}"#,
                "array of long",
            ),
            (r#""string""#, "string"),
            ("string", "string"),
        ] {
            let schema = parse(text).unwrap();
            assert_eq!(schema.describe(&schema.root), expected, "{text}");
        }
    }

    #[test]
    fn references_bring_names_with_them() {
        let money =
            r#"{"type":"record","name":"com.Money","fields":[{"name":"cents","type":"long"}]}"#;
        let order =
            r#"{"type":"record","name":"com.Order","fields":[{"name":"total","type":"Money"}]}"#;
        let schema = Schema::parse(order, &[money.to_string()]).unwrap();
        let total = &schema.record(&schema.root).unwrap()[0];
        assert_eq!(schema.describe(&total.of), "record com.Money");
        assert!(parse(order).unwrap_err().contains("no type 'Money'"));
    }

    #[test]
    fn what_is_no_schema_is_said() {
        for (text, expected) in [
            ("{", "no JSON"),
            ("{}", "no 'type'"),
            (r#"{"type":"array"}"#, "'items'"),
            (
                r#"{"type":"record","name":"r","fields":[{"name":"a","type":"text"}]}"#,
                "field 'a': there is no type 'text'",
            ),
            (
                r#"["null",{"type":"fixed","name":"f","size":1},{"type":"fixed","name":"f","size":2}]"#,
                "'f' is given twice",
            ),
            ("7", "7 is no schema"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
