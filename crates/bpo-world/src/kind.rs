//! What there is in this world, and what usually goes with what.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$item:meta])* $variant:ident => $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $type { $($(#[$item])* $variant,)* }

        impl $type {
            /// All of them, in a fixed order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its word.
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
    /// Where a scene is.
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
    /// A colour that a thing can have.
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
    /// A kind of thing. Of the four kinds of each place the first two are companions, and the last two.
    Kind {
        /// Of the kitchen, with the plate.
        Fork => "fork",
        /// Of the kitchen, with the fork.
        Plate => "plate",
        /// Of the kitchen, with the cup.
        Banana => "banana",
        /// Of the kitchen, with the banana.
        Cup => "cup",
        /// Of the street, with the sign.
        Car => "car",
        /// Of the street, with the car.
        Sign => "sign",
        /// Of the street, with the lamp.
        Bike => "bike",
        /// Of the street, with the bike.
        Lamp => "lamp",
        /// Of the meadow, with the fence.
        Cow => "cow",
        /// Of the meadow, with the cow.
        Fence => "fence",
        /// Of the meadow, with the tree.
        Flower => "flower",
        /// Of the meadow, with the flower.
        Tree => "tree",
        /// Of the beach, with the ball.
        Umbrella => "umbrella",
        /// Of the beach, with the umbrella.
        Ball => "ball",
        /// Of the beach, with the boat.
        Shell => "shell",
        /// Of the beach, with the shell.
        Boat => "boat",
    }
}

impl Place {
    /// The kinds that belong here.
    pub fn kinds(self) -> &'static [Kind] {
        let first = 4 * self as usize;
        &Kind::ALL[first..first + 4]
    }
}

impl Kind {
    /// Where it belongs.
    pub fn place(self) -> Place {
        Place::ALL[self as usize / 4]
    }

    /// The kind that is usually there too.
    pub fn companion(self) -> Self {
        Self::ALL[self as usize ^ 1]
    }

    /// The colour that it usually has.
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

    /// How many there usually are.
    pub fn usual_count(self) -> u8 {
        match self {
            Self::Banana | Self::Shell => 2,
            Self::Flower => 3,
            _ => 1,
        }
    }

    /// Its word for several.
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
    fn companions_are_of_one_place_and_mutual() {
        for kind in Kind::ALL.iter().copied() {
            assert_ne!(kind.companion(), kind);
            assert_eq!(kind.companion().companion(), kind);
            assert_eq!(kind.companion().place(), kind.place());
            assert!(kind.place().kinds().contains(&kind));
        }
    }
}
