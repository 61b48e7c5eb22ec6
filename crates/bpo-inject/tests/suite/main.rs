//! Tests of acceptance and of the co-occurrence injector.

mod cooccurrence;
mod replies;
