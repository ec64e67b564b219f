//! From keys to what MongoDB is asked.

use crate::mongo::value::value;
use crate::sql::connectors::mongodb::ID;
use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};

/// How many keys travel in one question.
const KEYS: usize = 1000;

/// The filters that find every document whose fields are those of one of the keys, and maybe more. Columns of the batch are named as the fields.
pub fn by_fields(keys: &RecordBatch) -> Vec<Document> {
    chunks(keys).map(|keys| filter(&keys)).collect()
}

/// The filters that find every document whose `_id` was made of one of the keys: of one column it is the value, of several a document.
pub fn by_id(keys: &RecordBatch, primary: &[usize]) -> Vec<Document> {
    let filter = |keys: RecordBatch| {
        let ids: Vec<Bson> = match primary {
            [only] => {
                let column = keys.column(*only);
                let rows = 0..keys.num_rows();
                rows.flat_map(|row| forms(column, row)).collect()
            }
            several => (0..keys.num_rows())
                .filter_map(|row| {
                    let parts = several.iter().map(|&at| {
                        let name = keys.schema_ref().field(at).name().clone();
                        Some((name, value(keys.column(at), row).ok()?))
                    });
                    let id = parts.collect::<Option<Document>>()?;
                    Some(Bson::Document(id))
                })
                .collect(),
        };
        doc! { ID: { "$in": ids } }
    };
    chunks(keys).map(filter).collect()
}

fn chunks(keys: &RecordBatch) -> impl Iterator<Item = RecordBatch> + '_ {
    let starts = (0..keys.num_rows()).step_by(KEYS);
    starts.map(|start| keys.slice(start, KEYS.min(keys.num_rows() - start)))
}

/// What is the same in all keys is said once. Of one column that differs the values are a list, for which the server looks into one index.
fn filter(keys: &RecordBatch) -> Document {
    let (same, differ): (Vec<usize>, Vec<usize>) =
        (0..keys.num_columns()).partition(|&at| is_constant(keys.column(at)));
    let name = |at: usize| keys.schema_ref().field(at).name().clone();
    let mut filter = Document::new();
    for at in same {
        filter.insert(name(at), equals(forms(keys.column(at), 0)));
    }
    let rows = 0..keys.num_rows();
    match differ.as_slice() {
        [] => {}
        [only] => {
            let values: Vec<Bson> = rows
                .flat_map(|row| forms(keys.column(*only), row))
                .collect();
            filter.insert(name(*only), doc! { "$in": values });
        }
        several => {
            let key = |row: usize| -> Document {
                let parts = several.iter();
                parts
                    .map(|&at| (name(at), equals(forms(keys.column(at), row))))
                    .collect()
            };
            let keys: Vec<Bson> = rows.map(|row| Bson::Document(key(row))).collect();
            filter.insert("$or", keys);
        }
    }
    filter
}

fn is_constant(column: &ArrayRef) -> bool {
    let first = column.slice(0, 1);
    (1..column.len()).all(|row| column.slice(row, 1).as_ref() == first.as_ref())
}

/// The values that a field may have to be this one: a text of 24 hexadecimal digits may be an ObjectId, which is read as that text. A number
/// that no document can hold is none.
fn forms(column: &ArrayRef, row: usize) -> Vec<Bson> {
    let Ok(value) = value(column, row) else {
        return Vec::new();
    };
    let id = match &value {
        Bson::String(text) => ObjectId::parse_str(text).ok(),
        _ => None,
    };
    let id = id.map(Bson::ObjectId);
    [value].into_iter().chain(id).collect()
}

fn equals(mut forms: Vec<Bson>) -> Bson {
    match forms.len() {
        1 => forms.remove(0),
        _ => Bson::Document(doc! { "$in": forms }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Decimal128Array, Int32Array, StringArray};
    use std::sync::Arc;

    fn keys(columns: &[(&str, ArrayRef)]) -> RecordBatch {
        let columns = columns
            .iter()
            .map(|(name, column)| (*name, Arc::clone(column), true));
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    fn numbers(values: &[i32]) -> ArrayRef {
        Arc::new(Int32Array::from(values.to_vec()))
    }

    fn texts(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn keys_are_asked_for_as_a_list_and_constants_once() {
        let one = keys(&[("id", numbers(&[7]))]);
        assert_eq!(by_fields(&one), [doc! { "id": 7 }]);
        let list = keys(&[("id", numbers(&[7, 8])), ("kind", texts(&["x", "x"]))]);
        assert_eq!(
            by_fields(&list),
            [doc! { "kind": "x", "id": { "$in": [7, 8] } }]
        );
        let pairs = keys(&[("a", numbers(&[7, 8])), ("b", texts(&["x", "y"]))]);
        assert_eq!(
            by_fields(&pairs),
            [doc! { "$or": [{ "a": 7, "b": "x" }, { "a": 8, "b": "y" }] }]
        );
        assert!(by_fields(&one.slice(0, 0)).is_empty());
    }

    #[test]
    fn many_keys_are_several_questions() {
        let values: Vec<i32> = (0..2_001).collect();
        let filters = by_fields(&keys(&[("id", numbers(&values))]));
        assert_eq!(filters.len(), 3);
        assert_eq!(filters[2], doc! { "id": 2_000 });
    }

    #[test]
    fn a_text_may_be_an_object_id() {
        let text = "65a0000000000000000000ff";
        let id = ObjectId::parse_str(text).unwrap();
        let one = keys(&[("_id", texts(&[text]))]);
        assert_eq!(by_fields(&one), [doc! { "_id": { "$in": [text, id] } }]);
        assert_eq!(by_id(&one, &[0]), by_fields(&one));
    }

    #[test]
    fn the_id_of_several_columns_is_a_document() {
        let pairs = keys(&[
            ("b", texts(&["x", "y"])),
            ("n", numbers(&[0, 0])),
            ("a", numbers(&[7, 8])),
        ]);
        assert_eq!(
            by_id(&pairs, &[2, 0]),
            [doc! { "_id": { "$in": [{ "a": 7, "b": "x" }, { "a": 8, "b": "y" }] } }]
        );
        assert_eq!(by_id(&pairs, &[2]), [doc! { "_id": { "$in": [7, 8] } }]);
    }

    #[test]
    fn a_number_that_no_document_can_hold_is_asked_for_as_nothing() {
        let most = 10i128.pow(38) - 1;
        let decimals = Decimal128Array::from(vec![most, 5]).with_precision_and_scale(38, 0);
        let wide = keys(&[("d", Arc::new(decimals.unwrap()))]);
        let five: Bson = Bson::Decimal128("5".parse().unwrap());
        assert_eq!(by_fields(&wide), [doc! { "d": { "$in": [five] } }]);
    }
}
