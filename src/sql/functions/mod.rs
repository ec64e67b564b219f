//! The functions that a job can call, with Flink's meaning.
//!
//! Every function is one row of a table: its name, what it takes, what it gives, and how a batch is
//! computed. Guarantee: a call is pure, so the same batch gives the same column always; and a value that Flink
//! answers with NULL is NULL here too, never an error. Where a function means something else than
//! DataFusion's of the same name, this one wins, because only what is listed here is callable.

mod aggregates;
mod arrays;
mod cast;
mod cast_text;
mod choices;
mod conditional;
mod decimal;
mod decimal_exact;
mod decimal_text;
mod digest;
mod fields;
mod java_double;
mod java_regex;
mod json;
mod maps;
mod math;
mod pattern;
mod regex;
mod row_number;
mod text;
mod time;
mod time_steps;
mod time_text;
mod time_units;
mod windows;

pub use aggregates::{Average, ONLY_OVER, Sum, aggregates};
pub use arrays::{element_at, looked_for, make_array};
pub use cast::{Cast, cast, fits, physical as physical_cast, refusal as cast_refusal};
pub use cast_text::to_text;
pub use choices::{Choices, choices};
pub use conditional::not_null;
pub use decimal::{divide, is_division, physical_divide};
pub use decimal_exact::{exact, exact_operator, may_be_too_long};
pub(crate) use decimal_text::{decimal, decimal_text, floating};
pub use fields::{field, is_field};
pub use maps::multiset;
pub(crate) use pattern::{Pattern, Reading};
pub use row_number::{ROW_NUMBER, row_number};
pub use windows::{Bound, WindowBound, window_bound};

pub use crate::sql::types::flink_name as type_name;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, PrimitiveArray, StringArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, TimeUnit};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Everything that an expression of a job can call by name; names are in lower case.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    [
        conditional::functions(),
        text::functions(),
        regex::functions(),
        math::functions(),
        time::functions(),
        time_steps::functions(),
        time_units::functions(),
        arrays::functions(),
        digest::functions(),
        json::functions(),
        maps::functions(),
    ]
    .into_iter()
    .flatten()
    .map(|function| Arc::new(ScalarUDF::from(function)))
    .collect()
}

/// One of the functions of [`all`], by its name in lower case.
pub fn named(name: &str) -> Option<Arc<ScalarUDF>> {
    all().into_iter().find(|function| function.name() == name)
}

/// Why a call with these constant texts cannot be, where that is known before any row is seen.
pub fn constant_refusal(name: &str, constants: &[Option<&str>]) -> Option<String> {
    let constant = |index: usize| constants.get(index).copied().flatten();
    match name {
        "regexp_extract" | "regexp_replace" | "regexp" | "regexp_extract_all" | "regexp_count"
        | "regexp_substr" | "regexp_instr" => {
            let pattern = constant(1)?;
            let why = java_regex::compile(pattern).err()?;
            Some(format!(
                "the pattern '{pattern}' cannot be used: {why}; looking around, referring back and possessive repetition are not supported"
            ))
        }
        "date_format" | "from_unixtime" | "unix_timestamp" | "to_timestamp" | "to_date" => {
            pattern::Pattern::compile(constant(1)?).err()
        }
        "json_value" | "json_query" | "json_exists" => json::Path::compile(constant(1)?).err(),
        "extract" => {
            let unit = constant(0)?;
            let known = time::EXTRACT_UNITS.contains(&unit);
            (!known).then(|| {
                format!(
                    "EXTRACT does not know {unit}; it knows {}",
                    time::EXTRACT_UNITS.join(", ")
                )
            })
        }
        _ => None,
    }
}

const CLOCK: &str = "a query has no clock: declare a column of the table that is read AS PROCTIME() (or CURRENT_TIMESTAMP), and use that";

/// Functions that Flink has and a job cannot call, with the reason and the way round.
pub const REFUSED: &[(&str, &str)] = &[
    (
        "uuid",
        "a job that starts again must give the same rows; take a column of the source, or MD5 over several",
    ),
    ("rand", "a job that starts again must give the same rows"),
    (
        "rand_integer",
        "a job that starts again must give the same rows",
    ),
    ("now", CLOCK),
    ("proctime", CLOCK),
    ("current_timestamp", CLOCK),
    ("current_row_timestamp", CLOCK),
    ("localtimestamp", CLOCK),
    ("current_date", CLOCK),
    ("current_time", CLOCK),
    ("localtime", CLOCK),
    (
        "current_watermark",
        "the watermark is not visible to expressions yet",
    ),
];

/// What an argument may be, and what it is cast to before the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Text,
    /// A whole number, cast to INT.
    Int,
    /// A whole number, cast to BIGINT.
    Long,
    /// Any number, cast to DOUBLE.
    Double,
    /// Any number, left as it is.
    Number,
    /// A DATE or a timestamp, left as it is; text is read as TIMESTAMP(3).
    Time,
    /// A DATE, a timestamp or a text, left as it is.
    TimeOrText,
    Array,
    Any,
}

/// The type that a function gives.
pub(crate) enum Gives {
    Type(DataType),
    /// The type of this argument.
    Same(usize),
    Of(fn(&[DataType]) -> Result<DataType>),
    /// By the types, and by the arguments that are constants.
    ByValue(TypeByValue),
}

type TypeByValue = fn(&[DataType], &[Option<&ScalarValue>]) -> Result<DataType>;

/// The types that arguments of these types are cast to, so that they fit each other; the text is the function's name.
type Agree = fn(&str, &[DataType]) -> Result<Vec<DataType>>;

type Call = Box<dyn Fn(&ScalarFunctionArgs) -> Result<ArrayRef> + Send + Sync>;

/// One function: a row of the table.
pub(crate) struct Function {
    name: &'static str,
    aliases: Vec<String>,
    takes: Vec<Takes>,
    /// How many of the last arguments can be left out.
    optional: usize,
    /// Whether the last argument can be repeated.
    variadic: bool,
    /// What the types of the arguments must have to do with each other.
    agree: Option<Agree>,
    gives: Gives,
    call: Call,
    signature: Signature,
}

impl Function {
    pub(crate) fn new(
        name: &'static str,
        takes: &[Takes],
        gives: Gives,
        call: impl Fn(&ScalarFunctionArgs) -> Result<ArrayRef> + Send + Sync + 'static,
    ) -> Self {
        Function {
            name,
            aliases: Vec::new(),
            takes: takes.to_vec(),
            optional: 0,
            variadic: false,
            agree: None,
            gives,
            call: Box::new(call),
            signature: if takes.is_empty() {
                Signature::nullary(Volatility::Immutable)
            } else {
                Signature::user_defined(Volatility::Immutable)
            },
        }
    }

    pub(crate) fn alias(mut self, alias: &str) -> Self {
        self.aliases.push(alias.into());
        self
    }

    pub(crate) fn optional(mut self, count: usize) -> Self {
        self.optional = count;
        self
    }

    pub(crate) fn variadic(mut self) -> Self {
        self.variadic = true;
        self
    }

    pub(crate) fn agree(mut self, agree: Agree) -> Self {
        self.agree = Some(agree);
        self
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name.to_uppercase();
        let least = self.takes.len() - self.optional;
        let enough = given.len() >= least && (self.variadic || given.len() <= self.takes.len());
        if !enough {
            let most = if self.variadic {
                " or more".into()
            } else if self.optional > 0 {
                format!(" to {}", self.takes.len())
            } else {
                String::new()
            };
            return plan_err!("{name} takes {least}{most} arguments, not {}", given.len());
        }
        let mut types = Vec::with_capacity(given.len());
        for (i, data_type) in given.iter().enumerate() {
            let takes = self.takes[i.min(self.takes.len() - 1)];
            match coerced(takes, data_type) {
                Some(coerced) => types.push(coerced),
                None => {
                    return plan_err!(
                        "argument {} of {name} is {}, but must be {}",
                        i + 1,
                        type_name(data_type),
                        takes.word()
                    );
                }
            }
        }
        match self.agree {
            Some(agree) => agree(&name, &types),
            None => Ok(types),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match &self.gives {
            Gives::Type(data_type) => Ok(data_type.clone()),
            Gives::Same(index) => Ok(types[*index].clone()),
            Gives::Of(of) => of(types),
            Gives::ByValue(of) => of(types, &[]),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types = args
            .arg_fields
            .iter()
            .map(|field| field.data_type().clone());
        let types: Vec<DataType> = types.collect();
        let gives = match &self.gives {
            Gives::ByValue(of) => of(&types, args.scalar_arguments)?,
            _ => self.return_type(&types)?,
        };
        Ok(Arc::new(Field::new(self.name, gives, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = !args.args.is_empty()
            && args
                .args
                .iter()
                .all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let result = (self.call)(&args)?;
        if constant && !result.is_empty() {
            let value = ScalarValue::try_from_array(&result, 0)?;
            return Ok(ColumnarValue::Scalar(value));
        }
        Ok(ColumnarValue::Array(result))
    }
}

impl Takes {
    fn word(self) -> &'static str {
        match self {
            Takes::Text => "STRING",
            Takes::Int | Takes::Long => "a whole number",
            Takes::Double | Takes::Number => "a number",
            Takes::Time | Takes::TimeOrText => "a DATE or a TIMESTAMP",
            Takes::Array => "an ARRAY",
            Takes::Any => "any type",
        }
    }
}

/// What an argument of this type is cast to, if it can be taken at all.
fn coerced(takes: Takes, given: &DataType) -> Option<DataType> {
    use DataType::{Date32, Float64, Int32, Int64, Null, Utf8};
    let is_text = matches!(given, Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match (takes, given) {
        (Takes::Any, _) => Some(if is_text { Utf8 } else { given.clone() }),
        (Takes::Text, Null) => Some(Utf8),
        (Takes::Text, _) => is_text.then_some(Utf8),
        (Takes::Int, Null) => Some(Int32),
        (Takes::Int, _) => given.is_integer().then_some(Int32),
        (Takes::Long, Null) => Some(Int64),
        (Takes::Long, _) => given.is_integer().then_some(Int64),
        (Takes::Double | Takes::Number, Null) => Some(Float64),
        (Takes::Double, _) => given.is_numeric().then_some(Float64),
        (Takes::Number, _) => given.is_numeric().then(|| given.clone()),
        (Takes::TimeOrText, _) if is_text => Some(Utf8),
        (Takes::Time | Takes::TimeOrText, Date32 | DataType::Timestamp(_, _)) => {
            Some(given.clone())
        }
        (Takes::Time | Takes::TimeOrText, _) if is_text || given.is_null() => {
            Some(DataType::Timestamp(TimeUnit::Millisecond, None))
        }
        (Takes::Array, DataType::List(_)) => Some(given.clone()),
        _ => None,
    }
}

/// All arguments get the type that they have in common.
fn uniform(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    Ok(vec![common_type(name, types)?; types.len()])
}

/// The type that values of all these types can have without loss.
pub(crate) fn common_type(name: &str, types: &[DataType]) -> Result<DataType> {
    let mut common = DataType::Null;
    for data_type in types {
        common = match (&common, data_type) {
            (a, b) if a == b => common,
            (DataType::Null, other) => other.clone(),
            (_, DataType::Null) => common,
            (a, b) => {
                match datafusion::logical_expr::type_coercion::binary::type_union_coercion(a, b) {
                    Some(both) => both,
                    None => {
                        return plan_err!(
                            "{name} cannot mix {} and {}; CAST one of them",
                            type_name(a),
                            type_name(b)
                        );
                    }
                }
            }
        };
    }
    Ok(common)
}

/// An argument as a column; a constant is kept as one value, so that a pattern is compiled once.
pub(crate) struct Values<A> {
    array: A,
    constant: bool,
}

impl<A> Values<A> {
    fn index(&self, row: usize) -> usize {
        if self.constant { 0 } else { row }
    }
}

impl Values<StringArray> {
    pub(crate) fn get(&self, row: usize) -> Option<&str> {
        let row = self.index(row);
        self.array.is_valid(row).then(|| self.array.value(row))
    }

    /// The value, where the argument is a constant that is not NULL.
    pub(crate) fn constant(&self) -> Option<&str> {
        if self.constant { self.get(0) } else { None }
    }
}

impl<T: ArrowPrimitiveType> Values<PrimitiveArray<T>> {
    pub(crate) fn get(&self, row: usize) -> Option<T::Native> {
        let row = self.index(row);
        self.array.is_valid(row).then(|| self.array.value(row))
    }
}

/// Argument number `index`, and whether it is a constant.
fn argument(args: &ScalarFunctionArgs, index: usize) -> Result<(ArrayRef, bool)> {
    match &args.args[index] {
        ColumnarValue::Array(array) => Ok((Arc::clone(array), false)),
        ColumnarValue::Scalar(value) => Ok((value.to_array_of_size(1)?, true)),
    }
}

pub(crate) fn texts(args: &ScalarFunctionArgs, index: usize) -> Result<Values<StringArray>> {
    let (array, constant) = argument(args, index)?;
    match array.as_string_opt::<i32>() {
        Some(array) => Ok(Values {
            array: array.clone(),
            constant,
        }),
        None => exec_err!(
            "argument {} is {}, not STRING",
            index + 1,
            type_name(array.data_type())
        ),
    }
}

pub(crate) fn numbers<T: ArrowPrimitiveType>(
    args: &ScalarFunctionArgs,
    index: usize,
) -> Result<Values<PrimitiveArray<T>>> {
    let (array, constant) = argument(args, index)?;
    match array.as_primitive_opt::<T>() {
        Some(array) => Ok(Values {
            array: array.clone(),
            constant,
        }),
        None => exec_err!(
            "argument {} is {}, not {}",
            index + 1,
            type_name(array.data_type()),
            type_name(&T::DATA_TYPE)
        ),
    }
}

/// Argument number `index` as a column of the batch's length.
pub(crate) fn column(args: &ScalarFunctionArgs, index: usize) -> Result<ArrayRef> {
    args.args[index].to_array(args.number_rows)
}

/// A column of INT, one value for each row of the batch.
pub(crate) fn int_rows(
    args: &ScalarFunctionArgs,
    value: impl FnMut(usize) -> Option<i32>,
) -> Result<ArrayRef> {
    Ok(Arc::new(
        (0..args.number_rows).map(value).collect::<Int32Array>(),
    ))
}

/// A column of text, one value for each row of the batch.
pub(crate) fn text_rows(
    args: &ScalarFunctionArgs,
    value: impl FnMut(usize) -> Option<String>,
) -> Result<ArrayRef> {
    Ok(Arc::new(
        (0..args.number_rows).map(value).collect::<StringArray>(),
    ))
}

#[cfg(test)]
mod testing;
