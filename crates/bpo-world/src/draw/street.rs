//! Drawings of the objects of the street.

use super::brush::{Brush, Tone::*};

pub(super) fn car(brush: &mut Brush) {
    brush.polygon(Base, &[(14, 30), (22, 14), (44, 14), (52, 30)]);
    brush.polygon(Pale, &[(19, 29), (25, 18), (32, 18), (32, 29)]);
    brush.polygon(Pale, &[(35, 29), (35, 18), (42, 18), (47, 29)]);
    brush.rectangle(Base, (2, 29), (60, 19));
    brush.rectangle(Dark, (2, 42), (60, 6));
    brush.rectangle(Light, (4, 31), (56, 3));
    for x in [16, 48] {
        brush.circle(Ink, (x, 49), 10);
        brush.circle(Pale, (x, 49), 4);
    }
}

pub(super) fn sign(brush: &mut Brush) {
    brush.rectangle(Ink, (28, 34), (8, 29));
    brush.polygon(Base, &[(20, 2), (43, 2), (60, 18), (43, 36), (20, 36), (4, 18)]);
    brush.polygon(Light, &[(21, 5), (42, 5), (52, 14), (12, 14)]);
    brush.rectangle(Pale, (16, 17), (32, 7));
}

pub(super) fn bike(brush: &mut Brush) {
    for x in [14, 49] {
        brush.circle(Ink, (x, 44), 14);
        brush.circle(Pale, (x, 44), 9);
        brush.circle(Ink, (x, 44), 2);
    }
    brush.bar(Base, (14, 44), (26, 22), 7);
    brush.bar(Base, (26, 23), (46, 23), 7);
    brush.bar(Base, (26, 24), (32, 46), 7);
    brush.bar(Base, (32, 46), (46, 24), 7);
    brush.bar(Base, (49, 44), (43, 14), 7);
    brush.rectangle(Dark, (18, 15), (16, 6));
    brush.rectangle(Ink, (38, 9), (14, 5));
}

pub(super) fn lamp(brush: &mut Brush) {
    brush.rectangle(Ink, (28, 22), (7, 36));
    brush.rectangle(Ink, (20, 57), (24, 6));
    brush.polygon(Base, &[(20, 4), (44, 4), (54, 26), (10, 26)]);
    brush.polygon(Light, &[(24, 6), (32, 6), (28, 24), (16, 24)]);
    brush.rectangle(Dark, (24, 0), (16, 5));
}
