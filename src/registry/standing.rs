//! Answers that stand: the same request is told the same until a document changes, and only counted.

use std::time::Instant;

use http::header;

use super::Registry;
use crate::core::id;
use crate::core::request::Request;
use crate::core::response::Response;
use crate::metrics::Tally;

/// An answer that stands for a moment.
#[derive(Debug)]
pub struct Standing {
    generation: u64,
    until: Instant,
    tally: Tally,
}

impl Registry {
    /// Answers a request, and says whether its answer stands: then [`Registry::still_stands`] tells for the moment whether a request with the same head has
    /// the same answer.
    pub async fn handle_standing(&self, request: Request) -> (Response, Option<Standing>) {
        // Taken first: what changes while the answer is made ends it.
        let (generation, until) = (self.storage.generation(), Instant::now() + self.storage.standing());
        // Who asks past caches wants it to be looked at.
        let insists = request.headers.contains_key(header::CACHE_CONTROL);
        let (response, tally) = self.handle_counted(request, !insists).await;
        (response, tally.map(|tally| Standing { generation, until, tally }))
    }

    /// Counts one more request that is answered so, if it still is: the request's id.
    pub fn still_stands(&self, standing: &Standing) -> Option<String> {
        let began = Instant::now();
        if began >= standing.until || self.storage.generation() != standing.generation {
            return None;
        }
        standing.tally.count(began.elapsed());
        Some(id::request_id())
    }
}
