//! Drawings of the objects of the meadow.

use super::brush::{Brush, Tone::*};

pub(super) fn cow(brush: &mut Brush) {
    for x in [8, 18, 34, 42] {
        brush.rectangle(Dark, (x, 40), (6, 21));
        brush.rectangle(Ink, (x, 57), (6, 5));
    }
    brush.ellipse(Base, (26, 32), 24, 15);
    brush.ellipse(Pale, (20, 28), 8, 6);
    brush.ellipse(Pale, (35, 35), 6, 5);
    brush.ellipse(Base, (52, 20), 10, 11);
    brush.ellipse(Pale, (55, 27), 7, 5);
    brush.polygon(Ink, &[(44, 12), (40, 3), (49, 9)]);
    brush.polygon(Ink, &[(56, 10), (62, 2), (60, 14)]);
    brush.circle(Ink, (53, 19), 2);
}

pub(super) fn fence(brush: &mut Brush) {
    brush.rectangle(Dark, (0, 24), (64, 8));
    brush.rectangle(Dark, (0, 44), (64, 8));
    for x in [3, 19, 35, 51] {
        brush.polygon(Base, &[(x, 14), (x + 5, 6), (x + 10, 14), (x + 10, 60), (x, 60)]);
        brush.rectangle(Light, (x + 1, 15), (3, 44));
    }
}

pub(super) fn flower(brush: &mut Brush) {
    brush.rectangle(Ink, (29, 36), (6, 27));
    brush.ellipse(Ink, (41, 50), 8, 4);
    for centre in [(32, 9), (48, 19), (43, 36), (21, 36), (16, 19)] {
        brush.circle(Base, centre, 10);
        brush.circle(Light, (centre.0 - 2, centre.1 - 2), 5);
    }
    brush.circle(Dark, (32, 23), 9);
    brush.circle(Pale, (32, 23), 5);
}

pub(super) fn tree(brush: &mut Brush) {
    brush.rectangle(Ink, (27, 46), (10, 17));
    brush.polygon(Dark, &[(32, 18), (58, 52), (6, 52)]);
    brush.polygon(Base, &[(32, 10), (54, 40), (10, 40)]);
    brush.polygon(Base, &[(32, 0), (48, 24), (16, 24)]);
    brush.polygon(Light, &[(31, 4), (31, 22), (20, 22)]);
    brush.polygon(Light, &[(28, 26), (28, 38), (16, 38)]);
}
