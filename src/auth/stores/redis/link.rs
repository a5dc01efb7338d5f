//! The connection to a Redis server: one for all, made when it is needed, and made anew after a failure.

use std::future::Future;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::{Client, Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, ScriptInvocation};
use parking_lot::Mutex;
use url::Url;

use crate::auth::stores::server::{CONNECT, Fault, Server};
use crate::core::error::{Error, Result};

/// Requests on their way at once: they share one connection, and answers come in the order of the questions.
const IN_FLIGHT: usize = 1024;

/// A server and the connection to it.
pub(super) struct Link {
    pub(super) server: Server,
    client: Client,
    /// With a number: whoever finds it broken throws this one away, and not its successor.
    connection: Mutex<(u64, Option<ConnectionManager>)>,
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        Self::Away(error.to_string())
    }
}

impl Link {
    /// To the server at a URL. Does no IO.
    pub(super) fn new(option: &'static str, url: &Url) -> Result<Self> {
        let client = Client::open(url.as_str()).map_err(|error| {
            // What it says is about the form alone: database number, parameters.
            Error::invalid(format!("option `{option}`: {}", error.category()))
        })?;
        Ok(Self { server: Server::new(option, url), client, connection: Mutex::default() })
    }

    fn connection(&self) -> RedisResult<(u64, ConnectionManager)> {
        let mut slot = self.connection.lock();
        if let (number, Some(connection)) = &*slot {
            return Ok((*number, connection.clone()));
        }
        let config = ConnectionManagerConfig::new()
            // A request that finds nobody is answered with 503 and comes again.
            .set_number_of_retries(0)
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(CONNECT))
            .set_pipeline_buffer_size(IN_FLIGHT);
        let connection = ConnectionManager::new_lazy_with_config(self.client.clone(), config)?;
        *slot = (slot.0 + 1, Some(connection.clone()));
        Ok((slot.0, connection))
    }

    /// Does something over the connection. After whatever failure the next one gets another connection: a failure to connect would last, and
    /// a server that has moved without a word would never be left.
    async fn over<T, F: Future<Output = RedisResult<T>>>(
        &self,
        work: impl FnOnce(ConnectionManager) -> F,
    ) -> RedisResult<T> {
        let (number, connection) = self.connection()?;
        let outcome = work(connection).await;
        if outcome.is_err() {
            let mut slot = self.connection.lock();
            if slot.0 == number {
                slot.1 = None;
            }
        }
        outcome
    }

    /// Does something that may be done twice. The connection may have been dropped unnoticed while nobody asked.
    async fn twice<T, F: Future<Output = RedisResult<T>>>(
        &self,
        work: impl Fn(ConnectionManager) -> F,
    ) -> Result<T, Fault> {
        match self.over(&work).await {
            Err(error) if error.is_io_error() && !error.is_timeout() => Ok(self.over(&work).await?),
            outcome => Ok(outcome?),
        }
    }

    /// Sends a command.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Fault> {
        self.twice(|mut to| async move { command.query_async(&mut to).await }).await
    }

    /// Sends many at once.
    pub(super) async fn pipe<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, Fault> {
        self.twice(|mut to| async move { commands.query_async(&mut to).await }).await
    }

    /// Runs a script that may run twice.
    pub(super) async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, Fault> {
        self.twice(|mut to| async move { script.invoke_async(&mut to).await }).await
    }

    /// Runs a script once. After a failure it may have run all the same.
    pub(super) async fn run_once<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, Fault> {
        Ok(self.over(|mut to| async move { script.invoke_async(&mut to).await }).await?)
    }
}
