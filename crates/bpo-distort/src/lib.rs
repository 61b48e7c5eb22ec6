//! bpo-distort
