//! The values of a primitive column.

use parquet::data_type::ByteArray;

/// The values of a primitive column, with their levels as in the paper on Dremel (Melnik et al., 2010).
#[derive(Debug, Default)]
pub(super) struct Leaf {
    pub(super) definition: Vec<i16>,
    pub(super) repetition: Vec<i16>,
    pub(super) numbers: Vec<f64>,
    /// All texts, one after the other: an allocation for each would take longer than to encode it.
    text: Vec<u8>,
    /// Where each text ends.
    ends: Vec<usize>,
}

/// The size of a leaf, to which it can be cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeafSize {
    levels: usize,
    numbers: usize,
    text: usize,
    ends: usize,
}

impl Leaf {
    /// Returns the size of the leaf.
    pub(super) fn size(&self) -> LeafSize {
        let Self { definition, numbers, text, ends, .. } = self;
        LeafSize { levels: definition.len(), numbers: numbers.len(), text: text.len(), ends: ends.len() }
    }

    /// Returns a leaf without values, and with as much room as this one has values.
    pub(super) fn next(&self) -> Self {
        Self {
            definition: Vec::with_capacity(self.definition.len()),
            repetition: Vec::with_capacity(self.repetition.len()),
            numbers: Vec::with_capacity(self.numbers.len()),
            text: Vec::with_capacity(self.text.len()),
            ends: Vec::with_capacity(self.ends.len()),
        }
    }

    /// Returns the bytes of the values.
    pub(super) fn bytes(&self) -> usize {
        self.text.len() + size_of_val(self.numbers.as_slice())
    }

    /// Removes the values that were added after `size` was taken.
    pub(super) fn cut(&mut self, size: LeafSize) {
        self.definition.truncate(size.levels);
        self.repetition.truncate(size.levels);
        self.numbers.truncate(size.numbers);
        self.text.truncate(size.text);
        self.ends.truncate(size.ends);
    }

    /// Removes all values.
    pub(super) fn clear(&mut self) {
        self.cut(LeafSize { levels: 0, numbers: 0, text: 0, ends: 0 });
    }

    /// Adds a null, or the place of a value.
    pub(super) fn level(&mut self, levels: Levels) {
        self.definition.push(levels.definition);
        self.repetition.push(levels.repetition);
    }

    /// Adds a text, or other bytes.
    pub(super) fn text(&mut self, text: &[u8], levels: Levels) {
        self.level(levels);
        self.text.extend_from_slice(text);
        self.ends.push(self.text.len());
    }

    /// Returns the first text, or `None` if there is none.
    pub(super) fn first_text(&self) -> Option<&str> {
        self.ends.first().and_then(|end| str::from_utf8(&self.text[..*end]).ok())
    }

    /// Adds a number.
    pub(super) fn number(&mut self, number: f64, levels: Levels) {
        self.level(levels);
        self.numbers.push(number);
    }

    /// Returns the texts.
    pub(super) fn into_texts(self) -> Vec<ByteArray> {
        let text = ByteArray::from(self.text);
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| text.slice(start, end - start)).collect()
    }
}

/// The levels of a value: how many of its optional and repeated parents are there, which repeated
/// parent begins a new element, and how many repeated parents there are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Levels {
    pub(super) definition: i16,
    pub(super) repetition: i16,
    pub(super) lists: i16,
}

impl Levels {
    /// The levels of a value that is not null.
    pub(super) fn there(self) -> Self {
        Self { definition: self.definition + 1, ..self }
    }
}
