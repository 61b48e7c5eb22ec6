//! The values of a primitive column.

use parquet::data_type::ByteArray;

/// The values of a primitive column, with their levels as in the paper on Dremel (Melnik et al., 2010).
#[derive(Debug, Default)]
pub(super) struct Leaf {
    pub(super) definition: Vec<i16>,
    pub(super) repetition: Vec<i16>,
    pub(super) texts: Vec<ByteArray>,
    pub(super) numbers: Vec<f64>,
    /// Bytes of the values.
    pub(super) bytes: usize,
}

/// The size of a leaf, to which it can be cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeafSize {
    levels: usize,
    texts: usize,
    numbers: usize,
    bytes: usize,
}

impl Leaf {
    /// Returns how much there is.
    pub(super) fn size(&self) -> LeafSize {
        let Self { definition, texts, numbers, bytes, .. } = self;
        LeafSize { levels: definition.len(), texts: texts.len(), numbers: numbers.len(), bytes: *bytes }
    }

    /// Removes the values that were added after `size` was taken.
    pub(super) fn cut(&mut self, size: LeafSize) {
        self.definition.truncate(size.levels);
        self.repetition.truncate(size.levels);
        self.texts.truncate(size.texts);
        self.numbers.truncate(size.numbers);
        self.bytes = size.bytes;
    }

    /// Adds a null, or the place of a value.
    pub(super) fn level(&mut self, levels: Levels) {
        self.definition.push(levels.definition);
        self.repetition.push(levels.repetition);
    }

    /// Adds a text.
    pub(super) fn text(&mut self, text: Vec<u8>, levels: Levels) {
        self.level(levels);
        self.bytes += text.len();
        self.texts.push(ByteArray::from(text));
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
