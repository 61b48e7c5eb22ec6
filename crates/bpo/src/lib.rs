//! bpo
