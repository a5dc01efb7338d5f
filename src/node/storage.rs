//! The objects of a registry, as `RegistryStorage` has them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use napi::Env;
use napi::bindgen_prelude::{ClassInstance, PromiseRaw};
use napi_derive::napi;

use super::auth_manager::{millis, protocol_name};
use super::error::Out;
use super::logger::Scope;
use super::request::{self, NativeBody};
use super::response::Chunk;
use super::stream::{Download, Upload};
use crate::core::body::Body;
use crate::core::error::Result;
use crate::core::protocol_name::ProtocolName;
use crate::handoff::pull::Live;
use crate::storage::{
    Condition, GetOptions, Key, ObjectInfo, ObjectMeta, Objects, PRIVATE, Prefix, PutOptions, Storage,
};

/// Whole objects are handed over up to this size: beyond it no Buffer can be made.
const WHOLE: u64 = 2 << 30;
/// Larger objects are written in parts.
const SMALL: u64 = 8 << 20;
/// Keys asked for at a time.
const PAGE: usize = 1000;

/// The storage of one registry.
#[napi]
pub struct NativeStorage {
    storage: Storage,
    live: Arc<Live>,
    idle: Duration,
    scope: Scope,
}

/// `IStorageMetadata`; the date in milliseconds, `metadata` as a flat list.
#[napi(object)]
pub struct NativeMeta {
    /// Bytes.
    pub size: f64,
    /// Version of the object.
    pub etag: String,
    /// When it was written.
    pub last_modified: f64,
    /// Content type.
    pub content_type: Option<String>,
    /// What else was given with it.
    pub metadata: Vec<String>,
}

#[napi]
impl NativeStorage {
    /// Connects the store.
    #[napi(catch_unwind)]
    pub fn init<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Out<()>>> {
        let storage = self.storage.clone();
        self.scope.promise(env, async move { storage.prepare().await })
    }

    /// The whole object.
    #[napi(catch_unwind)]
    pub fn get_object<'env>(
        &self,
        env: &'env Env,
        key: String,
    ) -> napi::Result<PromiseRaw<'env, Out<Option<Chunk>>>> {
        let storage = self.storage.clone();
        self.scope.promise(env, async move {
            let Some(body) = open(&storage, &key).await? else { return Ok(None) };
            Ok(Some(Chunk::whole(body.into_bytes("the object", WHOLE).await?)))
        })
    }

    /// The object in pieces.
    #[napi(catch_unwind)]
    pub fn get_object_stream<'env>(
        &self,
        env: &'env Env,
        key: String,
    ) -> napi::Result<PromiseRaw<'env, Out<Option<Download>>>> {
        let (storage, live, idle) = (self.storage.clone(), Arc::clone(&self.live), self.idle);
        self.scope.promise(env, async move {
            Ok(open(&storage, &key).await?.map(|body| Download::start(body, &live, idle)))
        })
    }

    /// Writes an object.
    #[napi(catch_unwind)]
    pub fn put_object<'env>(
        &self,
        env: &'env Env,
        key: String,
        body: Option<NativeBody>,
        upload: Option<ClassInstance<'_, Upload>>,
        content_type: Option<String>,
        metadata: Vec<String>,
    ) -> napi::Result<PromiseRaw<'env, Out<()>>> {
        let storage = self.storage.clone();
        let body = request::body(body, upload.as_deref());
        self.scope.promise(env, async move { put(&storage, &key, body?, content_type, metadata).await })
    }

    /// Writes a small object where there is none.
    #[napi(catch_unwind)]
    pub fn create_object<'env>(
        &self,
        env: &'env Env,
        key: String,
        body: Option<NativeBody>,
    ) -> napi::Result<PromiseRaw<'env, Out<bool>>> {
        let storage = self.storage.clone();
        let body = request::body(body, None);
        self.scope.promise(env, async move {
            let data = body?.into_bytes("the object", SMALL).await?;
            let options = PutOptions { condition: Condition::Absent, ..PutOptions::default() };
            let (objects, key) = (objects(&storage, &key), Key::new(key)?);
            let written = objects.put(&key, data, options, &ObjectInfo::default()).await?;
            Ok(written.is_some())
        })
    }

    /// Deletes an object; one that isn't there is fine.
    #[napi(catch_unwind)]
    pub fn delete_object<'env>(
        &self,
        env: &'env Env,
        key: String,
    ) -> napi::Result<PromiseRaw<'env, Out<()>>> {
        let storage = self.storage.clone();
        self.scope.promise(env, async move {
            objects(&storage, &key).delete(&Key::new(key)?, &ObjectInfo::default()).await
        })
    }

    /// Every key that begins with `prefix`; our own only when they are asked for.
    #[napi(catch_unwind)]
    pub fn list_objects<'env>(
        &self,
        env: &'env Env,
        prefix: String,
    ) -> napi::Result<PromiseRaw<'env, Out<Vec<String>>>> {
        let storage = self.storage.clone();
        self.scope.promise(env, async move { list(&storage, &prefix).await })
    }

    /// What is known of an object.
    #[napi(catch_unwind)]
    pub fn get_metadata<'env>(
        &self,
        env: &'env Env,
        key: String,
    ) -> napi::Result<PromiseRaw<'env, Out<Option<NativeMeta>>>> {
        let storage = self.storage.clone();
        self.scope.promise(env, async move {
            Ok(objects(&storage, &key).stat(&Key::new(key)?).await?.map(NativeMeta::from))
        })
    }
}

impl NativeStorage {
    pub(super) fn new(storage: Storage, live: Arc<Live>, idle: Duration, scope: Scope) -> Self {
        Self { storage, live, idle, scope }
    }
}

/// The host's own view: hooks see it as what the key's first segment says.
fn objects(storage: &Storage, key: &str) -> Objects {
    let first = key.split('/').next().unwrap_or_default();
    storage.objects(protocol_name(first).unwrap_or(ProtocolName::new("storage")), None)
}

async fn open(storage: &Storage, key: &str) -> Result<Option<Body>> {
    let (objects, key) = (objects(storage, key), Key::new(key)?);
    let found = objects.read(&key, GetOptions::default(), &ObjectInfo::default()).await?;
    Ok(found.map(|found| objects.body(&key, found)))
}

async fn put(
    storage: &Storage,
    key: &str,
    body: Body,
    content_type: Option<String>,
    metadata: Vec<String>,
) -> Result<()> {
    let objects = objects(storage, key);
    let key = Key::new(key)?;
    let info = ObjectInfo { content_type: content_type.clone(), ..ObjectInfo::default() };
    let user = request::pairs(metadata).collect();
    if body.length().is_some_and(|length| length <= SMALL) {
        let data: Bytes = body.into_bytes("the object", SMALL).await?;
        let options = PutOptions { condition: Condition::Always, content_type, user };
        objects.put(&key, data, options, &info).await?;
        return Ok(());
    }
    let length = body.length();
    let mut writer = objects.writer(Some(&key), &[], length)?.described(content_type, user);
    writer.write_all(body.into_stream()?, "the object", u64::MAX).await?;
    writer.finish().await?.publish(&key, Condition::Always, None, &info).await?;
    Ok(())
}

async fn list(storage: &Storage, prefix: &str) -> Result<Vec<String>> {
    let ours = prefix.split('/').next() == Some(PRIVATE);
    let objects = objects(storage, prefix);
    let prefix = Prefix::new(prefix)?;
    let mut keys = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = objects.list(&prefix, after.as_deref(), PAGE, false).await?;
        let found = page.objects.into_iter().filter(|one| ours || !one.key.is_private());
        keys.extend(found.map(|one| one.key.to_string()));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(keys),
        }
    }
}

#[allow(clippy::cast_precision_loss)] // exact up to eight petabytes
impl From<ObjectMeta> for NativeMeta {
    fn from(meta: ObjectMeta) -> Self {
        Self {
            size: meta.size as f64,
            etag: meta.version.0,
            last_modified: millis(meta.modified),
            content_type: meta.content_type,
            metadata: meta.user.into_iter().flat_map(|(name, value)| [name, value]).collect(),
        }
    }
}
