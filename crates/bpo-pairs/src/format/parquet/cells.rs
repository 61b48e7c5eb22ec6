//! Serializes a row into the values of its primitive columns.

use std::fmt;

use serde::ser::{
    Error as _, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple,
    Serializer,
};

use super::columns::{Column, Named};
use super::leaf::{Leaf, Levels};
use crate::image_store::ImageBytes;
use crate::skipped::{SkipCause, SkipReason};

/// Appends a row to the leaves of its columns, or returns the reason for which it is skipped. Then the
/// leaves may have a part of the row.
///
/// A key without a column is left out. A column without a key, or with a value of another type, is
/// null. With `images`, the bytes of images are added to their paths.
pub(super) fn put_row(
    row: &impl Serialize,
    columns: &'static [Named],
    leaves: &mut [Leaf],
    images: Option<&dyn ImageBytes>,
) -> Result<(), SkipCause> {
    let root = Cell { place: Place::Root(columns), levels: Levels::default(), leaves, images };
    row.serialize(root).map_err(|error| error.0)
}

/// The column of a value.
#[derive(Clone, Copy)]
enum Place {
    /// The row itself.
    Root(&'static [Named]),
    Column(&'static Column),
    /// A value that no column takes.
    Nowhere,
}

/// The place of one value.
struct Cell<'r> {
    place: Place,
    levels: Levels,
    leaves: &'r mut [Leaf],
    images: Option<&'r dyn ImageBytes>,
}

impl<'r> Cell<'r> {
    fn null(self) -> Result<(), RowError> {
        let levels = self.levels;
        self.leaves.iter_mut().for_each(|leaf| leaf.level(levels));
        Ok(())
    }

    fn number(self, number: f64) -> Result<(), RowError> {
        // as in JSON, which has no other numbers
        let Place::Column(Column::Number) = self.place else { return self.null() };
        if !number.is_finite() {
            return self.null();
        }
        self.leaves[0].number(number, self.levels.there());
        Ok(())
    }

    fn list(self) -> Result<ListCells<'r>, RowError> {
        let there = self.levels.there();
        let Self { place, levels, leaves, images } = self;
        let Place::Column(Column::List(element, _)) = place else {
            Cell { place, levels, leaves: &mut *leaves, images }.null()?;
            return Ok(ListCells {
                place: Place::Nowhere,
                empty: None,
                inside: levels,
                leaves: &mut [],
                images,
            });
        };
        let inside = Levels { definition: there.definition + 1, lists: levels.lists + 1, ..levels };
        Ok(ListCells { place: Place::Column(element), empty: Some(there), inside, leaves, images })
    }

    fn parts(self) -> Result<PartCells<'r>, RowError> {
        let Self { place, levels, leaves, images } = self;
        let (parts, levels) = match place {
            Place::Root(columns) => (columns, levels),
            Place::Column(Column::Struct(parts, _)) => (*parts, levels.there()),
            place => {
                Cell { place, levels, leaves: &mut *leaves, images }.null()?;
                return Ok(PartCells::new(&[], levels, &mut [], images));
            }
        };
        Ok(PartCells::new(parts, levels, leaves, images))
    }
}

/// Puts a value into its column. The value of a column of JSON is its text.
fn put(value: &(impl Serialize + ?Sized), cell: Cell<'_>) -> Result<(), RowError> {
    if let Place::Column(Column::Json) = cell.place {
        return match serde_json::to_string(value).map_err(RowError::custom)? {
            text if text == "null" => cell.null(),
            text => {
                cell.leaves[0].text(text.as_bytes(), cell.levels.there());
                Ok(())
            }
        };
    }
    value.serialize(cell)
}

/// The elements of a list.
struct ListCells<'r> {
    place: Place,
    /// The levels of the list, if it has had no element.
    empty: Option<Levels>,
    inside: Levels,
    leaves: &'r mut [Leaf],
    images: Option<&'r dyn ImageBytes>,
}

impl SerializeSeq for ListCells<'_> {
    type Ok = ();
    type Error = RowError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RowError> {
        let Self { place, inside, images, .. } = *self;
        put(value, Cell { place, levels: inside, leaves: &mut *self.leaves, images })?;
        self.empty = None;
        self.inside.repetition = self.inside.lists;
        Ok(())
    }

    fn end(self) -> Result<(), RowError> {
        if let Some(levels) = self.empty {
            self.leaves.iter_mut().for_each(|leaf| leaf.level(levels));
        }
        Ok(())
    }
}

impl SerializeTuple for ListCells<'_> {
    type Ok = ();
    type Error = RowError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RowError> {
        SerializeSeq::serialize_element(self, value)
    }

    fn end(self) -> Result<(), RowError> {
        SerializeSeq::end(self)
    }
}

/// The parts of a struct, or the columns of a row.
struct PartCells<'r> {
    parts: &'static [Named],
    /// A bit for each part that has its value.
    filled: u64,
    /// The part after the last one that got its value, and the first of its leaves.
    next: (usize, usize),
    /// The key of a map whose value comes next: the first value of a column of text.
    key: Leaf,
    levels: Levels,
    leaves: &'r mut [Leaf],
    images: Option<&'r dyn ImageBytes>,
}

impl<'r> PartCells<'r> {
    fn new(
        parts: &'static [Named],
        levels: Levels,
        leaves: &'r mut [Leaf],
        images: Option<&'r dyn ImageBytes>,
    ) -> Self {
        Self { parts, filled: 0, next: (0, 0), key: Leaf::default(), levels, leaves, images }
    }

    fn put(&mut self, key: &str, value: &(impl Serialize + ?Sized)) -> Result<(), RowError> {
        // values mostly come in the order of the parts
        let (mut at, mut first) = self.next;
        for _ in 0..self.parts.len() {
            if at == self.parts.len() {
                (at, first) = (0, 0);
            }
            let (name, column) = &self.parts[at];
            let end = first + column.leaves();
            if *name == key {
                if self.filled & 1 << at != 0 {
                    break;
                }
                self.filled |= 1 << at;
                self.next = (at + 1, end);
                let leaves = &mut self.leaves[first..end];
                let Self { levels, images, .. } = *self;
                return put(value, Cell { place: Place::Column(column), levels, leaves, images });
            }
            (at, first) = (at + 1, end);
        }
        Ok(())
    }

    /// Makes the parts without a value null.
    fn fill(self) -> Result<(), RowError> {
        let mut leaves = self.leaves;
        for (at, (_, column)) in self.parts.iter().enumerate() {
            let (own, rest) = leaves.split_at_mut(column.leaves());
            leaves = rest;
            if self.filled & 1 << at == 0 {
                own.iter_mut().for_each(|leaf| leaf.level(self.levels));
            }
        }
        Ok(())
    }
}

impl SerializeStruct for PartCells<'_> {
    type Ok = ();
    type Error = RowError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), RowError> {
        self.put(key, value)
    }

    fn end(self) -> Result<(), RowError> {
        self.fill()
    }
}

impl SerializeMap for PartCells<'_> {
    type Ok = ();
    type Error = RowError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), RowError> {
        self.key.clear();
        let (place, leaves) = (Place::Column(&Column::Text), std::slice::from_mut(&mut self.key));
        key.serialize(Cell { place, levels: Levels::default(), leaves, images: None })
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RowError> {
        let key = std::mem::take(&mut self.key);
        let put = match key.first_text() {
            Some(text) => self.put(text, value),
            None => Err(RowError::custom("expected a key of text")),
        };
        // the next key needs no allocation
        self.key = key;
        put
    }

    fn end(self) -> Result<(), RowError> {
        self.fill()
    }
}

impl<'r> Serializer for Cell<'r> {
    type Ok = ();
    type Error = RowError;
    type SerializeSeq = ListCells<'r>;
    type SerializeTuple = ListCells<'r>;
    type SerializeTupleStruct = Impossible<(), RowError>;
    type SerializeTupleVariant = Impossible<(), RowError>;
    type SerializeMap = PartCells<'r>;
    type SerializeStruct = PartCells<'r>;
    type SerializeStructVariant = Impossible<(), RowError>;

    fn serialize_bool(self, _: bool) -> Result<(), RowError> {
        self.null()
    }

    fn serialize_i8(self, value: i8) -> Result<(), RowError> {
        self.number(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), RowError> {
        self.number(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), RowError> {
        self.number(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), RowError> {
        self.number(value as f64)
    }

    fn serialize_u8(self, value: u8) -> Result<(), RowError> {
        self.number(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), RowError> {
        self.number(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), RowError> {
        self.number(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), RowError> {
        self.number(value as f64)
    }

    fn serialize_f32(self, value: f32) -> Result<(), RowError> {
        self.number(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), RowError> {
        self.number(value)
    }

    fn serialize_char(self, value: char) -> Result<(), RowError> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<(), RowError> {
        let there = self.levels.there();
        match self.place {
            Place::Column(Column::Text) => self.leaves[0].text(text.as_bytes(), there),
            Place::Column(Column::Image) => {
                let image = self.images.map(|images| images.bytes(text)).transpose().map_err(RowError)?;
                let [bytes, path] = self.leaves else {
                    return Err(RowError::custom("an image has two columns"));
                };
                match image {
                    Some(image) => bytes.text(&image, there.there()),
                    None => bytes.level(there),
                }
                path.text(text.as_bytes(), there.there());
            }
            _ => return self.null(),
        }
        Ok(())
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), RowError> {
        self.null()
    }

    fn serialize_none(self) -> Result<(), RowError> {
        self.null()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), RowError> {
        put(value, self)
    }

    fn serialize_unit(self) -> Result<(), RowError> {
        self.null()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), RowError> {
        self.null()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), RowError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), RowError> {
        put(value, self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: &T,
    ) -> Result<(), RowError> {
        Err(RowError::variant(variant))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<ListCells<'r>, RowError> {
        self.list()
    }

    fn serialize_tuple(self, _: usize) -> Result<ListCells<'r>, RowError> {
        self.list()
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, RowError> {
        Err(RowError::variant(name))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, RowError> {
        Err(RowError::variant(variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<PartCells<'r>, RowError> {
        self.parts()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<PartCells<'r>, RowError> {
        self.parts()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, RowError> {
        Err(RowError::variant(variant))
    }
}

/// The reason for which a row is skipped.
#[derive(Debug)]
struct RowError(SkipCause);

impl RowError {
    /// No record has enums with fields.
    fn variant(name: &str) -> Self {
        Self::custom(format_args!("no column can hold {name}"))
    }
}

impl serde::ser::Error for RowError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(SkipCause::new(SkipReason::Malformed, message))
    }
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::error::Error for RowError {}
