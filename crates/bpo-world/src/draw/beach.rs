//! Drawings of the objects of the beach.

use super::brush::{Brush, Tone::*};

pub(super) fn umbrella(brush: &mut Brush) {
    brush.rectangle(Ink, (30, 26), (5, 36));
    brush.polygon(Base, &[(2, 32), (6, 18), (18, 6), (32, 2), (46, 6), (58, 18), (62, 32)]);
    brush.polygon(Light, &[(2, 32), (6, 18), (18, 6), (30, 3), (22, 32)]);
    brush.polygon(Dark, &[(42, 32), (35, 3), (46, 6), (58, 18), (62, 32)]);
    brush.polygon(Base, &[(16, 32), (20, 14), (31, 3), (26, 32)]);
}

pub(super) fn ball(brush: &mut Brush) {
    brush.circle(Base, (32, 34), 27);
    brush.polygon(Pale, &[(32, 34), (10, 20), (18, 11), (28, 8)]);
    brush.polygon(Pale, &[(32, 34), (57, 26), (59, 40), (54, 48)]);
    brush.polygon(Pale, &[(32, 34), (30, 60), (20, 58), (12, 50)]);
    brush.circle(Dark, (32, 34), 6);
}

pub(super) fn shell(brush: &mut Brush) {
    brush.polygon(
        Base,
        &[(26, 60), (4, 34), (6, 20), (16, 10), (32, 6), (48, 10), (58, 20), (60, 34), (38, 60)],
    );
    for (x, y) in [(8, 26), (20, 12), (32, 8), (44, 12), (56, 26)] {
        brush.bar(Dark, (x, y), (32, 56), 5);
    }
    brush.polygon(Light, &[(20, 56), (44, 56), (48, 63), (16, 63)]);
}

pub(super) fn boat(brush: &mut Brush) {
    brush.rectangle(Ink, (29, 2), (5, 42));
    brush.polygon(Pale, &[(35, 4), (57, 38), (35, 38)]);
    brush.polygon(Light, &[(27, 10), (27, 38), (9, 38)]);
    brush.polygon(Base, &[(2, 42), (62, 42), (52, 60), (12, 60)]);
    brush.polygon(Dark, &[(8, 53), (56, 53), (52, 60), (12, 60)]);
}
