//! Rewrites serde's messages about wrong types in the terms of JSON or TOML.
//!
//! serde uses the names of Rust types (`expected f64`, `invalid type: map`), which authors of data
//! and settings files may not know.

/// The format whose terms a message uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageTerms {
    /// JSON: objects and lists.
    Json,
    /// TOML: tables and arrays.
    Toml,
}

impl MessageTerms {
    /// Rewrites a message of serde, with the expected type before the value that was found:
    /// `expected a number, found the text "16"`. Messages of other kinds are returned unchanged.
    ///
    /// ```
    /// use bpo_pairs::MessageTerms;
    ///
    /// let message = "invalid type: string \"16\", expected f64";
    /// assert_eq!(MessageTerms::Json.message(message), "expected a number, found the text \"16\"");
    /// ```
    pub fn message(self, message: &str) -> String {
        let kinds = ["invalid type: ", "invalid value: "];
        let parts = kinds.iter().find_map(|kind| message.strip_prefix(kind));
        match parts.and_then(|rest| rest.rsplit_once(", expected ")) {
            Some((found, expected)) => {
                format!("expected {}, found {}", self.expected(expected.trim()), self.found(found))
            }
            None => message.to_owned(),
        }
    }

    /// Returns the description of an expected type. `name` is the name of a Rust type or serde's
    /// own description.
    pub fn expected(self, name: &str) -> String {
        match name {
            "f32" | "f64" => "a number",
            "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, at least 0",
            "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
            "a boolean" => "true or false",
            "a string" => "a text",
            "path string" => "a path in quotation marks",
            "option" => "a value",
            "unit" => "null",
            "a map" => self.map(),
            // serde adds the name of the Rust type
            name if name.starts_with("internally tagged enum ") => {
                return format!("{} with the key `type`", self.map());
            }
            name if ["struct ", "tuple struct ", "enum "].iter().any(|kind| name.starts_with(kind)) => {
                self.map()
            }
            "a sequence" => self.sequence(),
            name => return name.replace("an array of length", &format!("{} of length", self.sequence())),
        }
        .to_owned()
    }

    /// Returns the description of a value that was found.
    fn found(self, found: &str) -> String {
        match found.split_once(' ') {
            _ if found == "map" => self.map().to_owned(),
            _ if found == "sequence" => self.sequence().to_owned(),
            Some(("string", text)) => format!("the text {text}"),
            Some(("integer" | "boolean", value)) => value.trim_matches('`').to_owned(),
            Some(("floating", value)) => value.trim_start_matches("point ").trim_matches('`').to_owned(),
            _ => found.to_owned(),
        }
    }

    fn map(self) -> &'static str {
        match self {
            Self::Json => "an object",
            Self::Toml => "a table",
        }
    }

    fn sequence(self) -> &'static str {
        match self {
            Self::Json => "a list",
            Self::Toml => "an array",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_use_the_terms_of_the_format() {
        for (message, json, toml) in [
            (
                "invalid type: map, expected a sequence",
                "expected a list, found an object",
                "expected an array, found a table",
            ),
            (
                "invalid type: integer `3`, expected struct Settings",
                "expected an object, found 3",
                "expected a table, found 3",
            ),
            (
                "invalid value: floating point `-2.5`, expected u32",
                "expected a whole number, at least 0, found -2.5",
                "expected a whole number, at least 0, found -2.5",
            ),
            (
                "invalid type: boolean `true`, expected an array of length 2",
                "expected a list of length 2, found true",
                "expected an array of length 2, found true",
            ),
            (
                "invalid type: string \"simpo\", expected internally tagged enum Loss",
                "expected an object with the key `type`, found the text \"simpo\"",
                "expected a table with the key `type`, found the text \"simpo\"",
            ),
            ("missing field `id`", "missing field `id`", "missing field `id`"),
        ] {
            assert_eq!(MessageTerms::Json.message(message), json);
            assert_eq!(MessageTerms::Toml.message(message), toml);
        }
    }
}
