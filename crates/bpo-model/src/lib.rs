//! bpo-model
