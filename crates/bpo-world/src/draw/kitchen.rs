//! Drawings of the objects of the kitchen.

use super::brush::{Brush, Tone::*};

pub(super) fn fork(brush: &mut Brush) {
    brush.rectangle(Base, (27, 30), (10, 32));
    brush.rectangle(Dark, (33, 32), (4, 30));
    brush.polygon(Base, &[(16, 18), (47, 18), (42, 34), (21, 34)]);
    for x in [15, 28, 41] {
        brush.rectangle(Base, (x, 2), (8, 20));
        brush.rectangle(Light, (x, 2), (3, 18));
    }
}

pub(super) fn plate(brush: &mut Brush) {
    brush.circle(Base, (32, 32), 30);
    brush.circle(Light, (31, 31), 24);
    brush.circle(Dark, (32, 32), 17);
    brush.circle(Base, (33, 33), 15);
}

pub(super) fn banana(brush: &mut Brush) {
    brush.polygon(
        Base,
        &[
            (6, 16),
            (14, 14),
            (20, 30),
            (32, 40),
            (46, 40),
            (58, 32),
            (61, 38),
            (50, 52),
            (34, 56),
            (18, 48),
            (8, 34),
        ],
    );
    brush.polygon(Light, &[(12, 20), (18, 34), (30, 45), (46, 46), (34, 49), (20, 42), (12, 30)]);
    brush.rectangle(Ink, (5, 10), (9, 8));
    brush.rectangle(Ink, (56, 30), (6, 7));
}

pub(super) fn cup(brush: &mut Brush) {
    brush.circle(Base, (48, 30), 14);
    brush.circle(Pale, (48, 30), 7);
    brush.polygon(Base, &[(6, 12), (46, 12), (42, 58), (10, 58)]);
    brush.polygon(Light, &[(10, 14), (18, 14), (19, 56), (14, 56)]);
    brush.ellipse(Dark, (26, 12), 20, 6);
    brush.ellipse(Ink, (26, 13), 15, 3);
}
