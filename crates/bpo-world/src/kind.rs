//! Places, colours and kinds of objects, and which of them usually appear together.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$item:meta])* $variant:ident => $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $type { $($(#[$item])* $variant,)* }

        impl $type {
            /// All values, in a fixed order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The English word.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

named! {
    /// The place of a scene.
    Place {
        /// A wall and a table.
        Kitchen => "kitchen",
        /// Houses and a road.
        Street => "street",
        /// Hills and grass.
        Meadow => "meadow",
        /// The sea and sand.
        Beach => "beach",
    }
}

named! {
    /// The colour of an object.
    Colour {
        /// Red.
        Red => "red",
        /// Orange.
        Orange => "orange",
        /// Yellow.
        Yellow => "yellow",
        /// Green.
        Green => "green",
        /// Blue.
        Blue => "blue",
        /// Purple.
        Purple => "purple",
        /// Brown.
        Brown => "brown",
        /// White.
        White => "white",
    }
}

named! {
    /// A kind of object. Each place has four kinds: the first two are companions, and so are the
    /// last two.
    Kind {
        /// Belongs to the kitchen; the companion is the plate.
        Fork => "fork",
        /// Belongs to the kitchen; the companion is the fork.
        Plate => "plate",
        /// Belongs to the kitchen; the companion is the cup.
        Banana => "banana",
        /// Belongs to the kitchen; the companion is the banana.
        Cup => "cup",
        /// Belongs to the street; the companion is the sign.
        Car => "car",
        /// Belongs to the street; the companion is the car.
        Sign => "sign",
        /// Belongs to the street; the companion is the lamp.
        Bike => "bike",
        /// Belongs to the street; the companion is the bike.
        Lamp => "lamp",
        /// Belongs to the meadow; the companion is the fence.
        Cow => "cow",
        /// Belongs to the meadow; the companion is the cow.
        Fence => "fence",
        /// Belongs to the meadow; the companion is the tree.
        Flower => "flower",
        /// Belongs to the meadow; the companion is the flower.
        Tree => "tree",
        /// Belongs to the beach; the companion is the ball.
        Umbrella => "umbrella",
        /// Belongs to the beach; the companion is the umbrella.
        Ball => "ball",
        /// Belongs to the beach; the companion is the boat.
        Shell => "shell",
        /// Belongs to the beach; the companion is the shell.
        Boat => "boat",
    }
}

impl Place {
    /// The four kinds that belong to this place.
    pub fn kinds(self) -> &'static [Kind] {
        let first = 4 * self as usize;
        &Kind::ALL[first..first + 4]
    }
}

impl Kind {
    /// The place that this kind belongs to.
    pub fn place(self) -> Place {
        Place::ALL[self as usize / 4]
    }

    /// The kind that usually appears together with this one.
    pub fn companion(self) -> Self {
        Self::ALL[self as usize ^ 1]
    }

    /// The usual colour.
    pub fn usual_colour(self) -> Colour {
        match self {
            Self::Fork | Self::Fence | Self::Lamp => Colour::White,
            Self::Plate | Self::Bike | Self::Boat => Colour::Blue,
            Self::Banana | Self::Umbrella => Colour::Yellow,
            Self::Cup | Self::Car => Colour::Red,
            Self::Sign | Self::Tree => Colour::Green,
            Self::Cow => Colour::Brown,
            Self::Flower => Colour::Purple,
            Self::Ball | Self::Shell => Colour::Orange,
        }
    }

    /// The usual number of objects in a scene.
    pub fn usual_count(self) -> u8 {
        match self {
            Self::Banana | Self::Shell => 2,
            Self::Flower => 3,
            _ => 1,
        }
    }

    /// The English plural.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Fork => "forks",
            Self::Plate => "plates",
            Self::Banana => "bananas",
            Self::Cup => "cups",
            Self::Car => "cars",
            Self::Sign => "signs",
            Self::Bike => "bikes",
            Self::Lamp => "lamps",
            Self::Cow => "cows",
            Self::Fence => "fences",
            Self::Flower => "flowers",
            Self::Tree => "trees",
            Self::Umbrella => "umbrellas",
            Self::Ball => "balls",
            Self::Shell => "shells",
            Self::Boat => "boats",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn companions_are_mutual_and_share_a_place() {
        for kind in Kind::ALL.iter().copied() {
            assert_ne!(kind.companion(), kind);
            assert_eq!(kind.companion().companion(), kind);
            assert_eq!(kind.companion().place(), kind.place());
            assert!(kind.place().kinds().contains(&kind));
        }
    }
}
