//! Finding the bucket, or making it; many processes may do so at the same moment.

use std::time::Duration;

use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};

use super::bucket::Bucket;
use super::error::{Answer, failure};
use crate::storage::{StoreError, StoreResult};

/// How often to look again while somebody else is making the bucket.
const LOOKS: u32 = 10;
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// What `HeadBucket` says.
enum Look {
    There,
    /// Least-privilege keys often may not ask.
    Unknowable,
    Missing,
}

impl Bucket {
    /// Makes sure that there is a bucket, and that requests are signed for its region.
    pub(super) async fn ensure_bucket(&self) -> StoreResult<()> {
        match self.look().await? {
            Look::There => Ok(()),
            Look::Unknowable => {
                tracing::warn!(
                    bucket = self.target().bucket,
                    "the S3 keys may not ask whether the bucket is there; the first request will tell"
                );
                Ok(())
            }
            Look::Missing => self.create_bucket().await,
        }
    }

    async fn look(&self) -> StoreResult<Look> {
        for _ in 0..2 {
            let clients = self.clients().await?;
            let request = clients.metadata.head_bucket().bucket(&self.target().bucket);
            let Err(error) = request.send().await else { return Ok(Look::There) };
            let answer = Answer::of(&error);
            match answer.status {
                404 => return Ok(Look::Missing),
                301 | 307 | 400 if answer.region.is_some() => {
                    let region = answer.region.unwrap_or_default();
                    tracing::warn!(
                        bucket = self.target().bucket,
                        region,
                        "the bucket is in another region than configured; set `storage.region`"
                    );
                    self.reconnect(&region).await?;
                }
                401 | 403 => return Ok(Look::Unknowable),
                0 => return Err(self.unreachable(&error)),
                status => return Err(self.odd_answer(status)),
            }
        }
        Err(self.odd_answer(301))
    }

    async fn create_bucket(&self) -> StoreResult<()> {
        let region = self.target().region.clone();
        // `us-east-1` is no constraint, and servers that know no regions refuse any.
        let mut constraint = (!matches!(region.as_str(), "us-east-1" | "auto"))
            .then(|| BucketLocationConstraint::from(region.as_str()));
        for _ in 0..LOOKS {
            let clients = self.clients().await?;
            let configuration = constraint
                .clone()
                .map(|place| CreateBucketConfiguration::builder().location_constraint(place).build());
            let request = clients.metadata.create_bucket().bucket(&self.target().bucket);
            let outcome = request.set_create_bucket_configuration(configuration).send().await;
            let Err(error) = outcome else {
                tracing::info!(bucket = self.target().bucket, "created the bucket");
                return Ok(());
            };
            let answer = Answer::of(&error);
            let bucket = &self.target().bucket;
            match (answer.status, answer.code.as_str()) {
                (_, "BucketAlreadyOwnedByYou") => return Ok(()),
                // Most servers say so for our own bucket too.
                (_, "BucketAlreadyExists") => {
                    return match self.look().await? {
                        Look::There => Ok(()),
                        _ => Err(StoreError::Denied(format!(
                            "the bucket name `{bucket}` is taken by somebody else: choose another `storage.bucketName`"
                        ))),
                    };
                }
                (_, "InvalidLocationConstraint" | "IllegalLocationConstraintException")
                    if constraint.is_some() =>
                {
                    constraint = None;
                }
                (401 | 403, _) => {
                    return Err(StoreError::Denied(format!(
                        "the bucket `{bucket}` does not exist, and the keys may not create it: create it, or grant \
                         s3:CreateBucket (the server says {})",
                        answer.code
                    )));
                }
                (0, _) => return Err(self.unreachable(&error)),
                // Somebody else is making it at this moment, or the server is busy.
                (409 | 500.., _) => {
                    tokio::time::sleep(PAUSE).await;
                    if matches!(self.look().await?, Look::There) {
                        return Ok(());
                    }
                }
                (status, code) => {
                    return Err(StoreError::Denied(format!(
                        "the bucket `{bucket}` does not exist and could not be created: {status} {code} {}",
                        answer.message
                    )));
                }
            }
        }
        Err(StoreError::Conflict)
    }

    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> StoreError {
        let mut cause = error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        StoreError::Unknown(failure(format!(
            "no answer from the S3 server at {}: {cause}",
            self.target().url
        )))
    }

    fn odd_answer(&self, status: u16) -> StoreError {
        StoreError::Denied(format!(
            "the S3 server at {} answers {status} when asked for the bucket `{}`: check `endpoint`, `port`, `useSsl` and \
             `region`",
            self.target().url,
            self.target().bucket
        ))
    }
}
