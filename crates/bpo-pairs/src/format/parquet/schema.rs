//! The Parquet schema of columns, and their features in the terms of the `datasets` library.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::columns::{Column, Named};

/// Returns the schema as a Parquet message type.
pub(super) fn message_type(columns: &[Named]) -> String {
    let mut text = String::from("message schema {\n");
    for (name, column) in columns {
        add(&mut text, name, column);
    }
    text.push('}');
    text
}

fn add(text: &mut String, name: &str, column: &Column) {
    // writing to a String does not fail
    let _ = match column {
        Column::Text | Column::Json => writeln!(text, "optional binary {name} (STRING);"),
        Column::Number => writeln!(text, "optional double {name};"),
        Column::Image => {
            let [bytes, path] = Column::IMAGE_PARTS;
            writeln!(
                text,
                "optional group {name} {{ optional binary {bytes}; optional binary {path} (STRING); }}"
            )
        }
        Column::List(element, _) => {
            let _ = writeln!(text, "optional group {name} (LIST) {{ repeated group list {{");
            add(text, "element", element);
            writeln!(text, "}} }}")
        }
        Column::Struct(parts, _) => {
            let _ = writeln!(text, "optional group {name} {{");
            parts.iter().for_each(|(name, part)| add(text, name, part));
            writeln!(text, "}}")
        }
    };
}

/// Returns the value of the key `huggingface` in the metadata of the file, from which the `datasets`
/// library takes the features.
pub(super) fn features(columns: &[Named]) -> String {
    json!({"info": {"features": parts(columns)}}).to_string()
}

fn parts(columns: &[Named]) -> Value {
    let parts = columns.iter().map(|(name, column)| ((*name).to_owned(), feature(column)));
    Value::Object(parts.collect::<Map<_, _>>())
}

fn feature(column: &Column) -> Value {
    match column {
        Column::Text | Column::Json => json!({"dtype": "string", "_type": "Value"}),
        Column::Number => json!({"dtype": "float64", "_type": "Value"}),
        Column::Image => json!({"_type": "Image"}),
        // all versions read this form of a list
        Column::List(element, _) => json!([feature(element)]),
        Column::Struct(named, _) => parts(named),
    }
}
