//! Values of any shape, as histories carry them.

use std::fmt;
use std::sync::Arc;

/// A value as EDN or JSON writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// Nothing.
    #[default]
    Nil,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number, as it is written.
    Number(Arc<str>),
    /// A character or a string.
    Text(Arc<str>),
    /// A name with a colon before it, without that colon.
    Keyword(Arc<str>),
    /// A bare name.
    Symbol(Arc<str>),
    /// Values in order: lists and vectors alike.
    List(Vec<Value>),
    /// Values without an order, sorted.
    Set(Vec<Value>),
    /// Keys and values, as they came.
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// A string.
    #[must_use]
    pub fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    /// What a map holds under a keyword or string.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value> {
        let Value::Map(entries) = self else { return None };
        let named = |key: &Value| matches!(key, Value::Keyword(key) | Value::Text(key) if **key == *name);
        entries.iter().find(|(key, _)| named(key)).map(|(_, value)| value)
    }

    /// The text of a keyword, string or symbol.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Value::Keyword(name) | Value::Text(name) | Value::Symbol(name) => Some(name),
            _ => None,
        }
    }

    /// The values of a list of two.
    #[must_use]
    pub fn pair(&self) -> Option<(&Value, &Value)> {
        match self {
            Value::List(values) if values.len() == 2 => Some((&values[0], &values[1])),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Int(number)
    }
}

/// Written as EDN.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn all(f: &mut fmt::Formatter<'_>, open: &str, values: &[Value], close: &str) -> fmt::Result {
            f.write_str(open)?;
            for (index, value) in values.iter().enumerate() {
                write!(f, "{}{value}", if index == 0 { "" } else { " " })?;
            }
            f.write_str(close)
        }
        match self {
            Value::Nil => f.write_str("nil"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Number(value) | Value::Symbol(value) => f.write_str(value),
            Value::Text(value) => write_text(f, value),
            Value::Keyword(value) => write!(f, ":{value}"),
            Value::List(values) => all(f, "[", values, "]"),
            Value::Set(values) => all(f, "#{", values, "}"),
            Value::Map(entries) => {
                f.write_str("{")?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{key} {value}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for character in text.chars() {
        match character {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            other => write!(f, "{other}")?,
        }
    }
    f.write_str("\"")
}
