//! Filled shapes in one colour, clipped to the canvas. A shape has the same pixels on every
//! machine.

use image::{ImageBuffer, Pixel};

/// An image that is drawn on.
type Canvas<P> = ImageBuffer<P, Vec<<P as Pixel>::Subpixel>>;

/// A rectangle from its left upper corner. Empty if a size is not positive.
pub(super) fn rectangle<P: Pixel>(
    canvas: &mut Canvas<P>,
    (x, y): (i32, i32),
    (width, height): (i32, i32),
    colour: P,
) {
    for row in y..y + height {
        span(canvas, row, x, x + width - 1, colour);
    }
}

/// An ellipse with horizontal and vertical axes, by the midpoint algorithm.
pub(super) fn ellipse<P: Pixel>(
    canvas: &mut Canvas<P>,
    centre: (i32, i32),
    radius_x: i32,
    radius_y: i32,
    colour: P,
) {
    let mut spans = |x: i64, y: i64| {
        let (x, y) = (x as i32, y as i32);
        for row in [centre.1 - y, centre.1 + y] {
            span(canvas, row, centre.0 - x, centre.0 + x, colour);
        }
    };
    let (square_x, square_y) = (i64::from(radius_x).pow(2), i64::from(radius_y).pow(2));
    // four times the ellipse's equation at a point given in halves: negative inside
    let outside = |x2: i64, y2: i64| square_y * x2 * x2 + square_x * y2 * y2 - 4 * square_x * square_y;

    let (mut x, mut y) = (0, i64::from(radius_y));
    spans(x, y);
    // where the arc is flatter than the diagonal, a column at a time
    while square_y * x < square_x * y {
        if outside(2 * x + 2, 2 * y - 1) >= 0 {
            y -= 1;
        }
        x += 1;
        spans(x, y);
    }
    // where it is steeper, a row at a time
    while y > 0 {
        if outside(2 * x + 1, 2 * y - 2) <= 0 {
            x += 1;
        }
        y -= 1;
        spans(x, y);
    }
}

/// A polygon with its outline. The last corner is joined with the first.
pub(super) fn polygon<P: Pixel>(canvas: &mut Canvas<P>, corners: &[(i32, i32)], colour: P) {
    let next = corners.iter().cycle().skip(1);
    let edges: Vec<_> = corners.iter().copied().zip(next.copied()).collect();
    let rows = corners.iter().map(|corner| corner.1);
    let (top, bottom) = (rows.clone().min().unwrap_or(0), rows.max().unwrap_or(-1));
    for y in top.max(0)..=bottom.min(canvas.height() as i32 - 1) {
        let mut crossings: Vec<i32> = edges.iter().flat_map(|edge| crossings(*edge, y)).flatten().collect();
        crossings.sort_unstable();
        for pair in crossings.chunks_exact(2) {
            span(canvas, y, pair[0], pair[1], colour);
        }
    }
    for (from, to) in edges {
        line(canvas, from, to, colour);
    }
}

/// Where an edge crosses a row. A corner counts for the edge that leads down from it.
fn crossings(((x0, y0), (x1, y1)): ((i32, i32), (i32, i32)), y: i32) -> [Option<i32>; 2] {
    if y < y0.min(y1) || y > y0.max(y1) {
        [None, None]
    } else if y0 == y1 {
        [Some(x0), Some(x1)]
    } else if y == y0.max(y1) {
        [None, None]
    } else if y == y0 {
        [Some(x0), None]
    } else if y == y1 {
        [Some(x1), None]
    } else {
        let along = (y - y0) as f32 / (y1 - y0) as f32;
        [Some((x0 as f32 + along * (x1 - x0) as f32).round() as i32), None]
    }
}

/// A line one pixel wide, both ends included, by Bresenham's algorithm.
fn line<P: Pixel>(canvas: &mut Canvas<P>, from: (i32, i32), to: (i32, i32), colour: P) {
    let is_steep = (to.1 - from.1).abs() > (to.0 - from.0).abs();
    let along = |(x, y): (i32, i32)| if is_steep { (y, x) } else { (x, y) };
    let (from, to) = (along(from), along(to));
    let ((x0, mut y), (x1, y1)) = if from.0 > to.0 { (to, from) } else { (from, to) };
    let (length, rise, step) = (2 * (x1 - x0), 2 * (y1 - y).abs(), (y1 - y).signum());
    let mut error = length / 2;
    for x in x0..=x1 {
        let (column, row) = along((x, y));
        span(canvas, row, column, column, colour);
        error -= rise;
        if error < 0 {
            y += step;
            error += length;
        }
    }
}

/// A part of a row, both ends included.
fn span<P: Pixel>(canvas: &mut Canvas<P>, row: i32, from: i32, to: i32, colour: P) {
    if (0..canvas.height() as i32).contains(&row) {
        for column in from.max(0)..=to.min(canvas.width() as i32 - 1) {
            canvas.put_pixel(column as u32, row as u32, colour);
        }
    }
}
