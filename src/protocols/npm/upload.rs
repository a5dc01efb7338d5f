//! The body of a PUT on a package: document and tarball, from whatever form it comes in. The tarball streams into the store while it is
//! hashed and looked into; nothing of it is visible yet.

use futures_util::StreamExt;

use super::body::{self, Coding};
use super::decode::Gunzip;
use super::inspect::{Inspected, Inspector};
use super::intake::{Event, IntakeLimits, Splitter};
use super::manifest::{BUNDLE, attachment_version};
use super::name::PackageName;
use super::{Npm, keys};
use crate::core::archive::{ArchiveLimits, TarGz};
use crate::core::body::GivenJson;
use crate::protocols::prelude::*;
use crate::storage::{Staged, Writer};

/// Largest piece that is worked on at once; a piece of gzip may become a thousand times as much.
const PIECE: usize = 256 << 10;
const GZIP_PIECE: usize = 4 << 10;
/// Pieces up to this size are done with before a thread could be woken.
const INLINE: usize = 4 << 10;

/// A body, all of it.
pub(crate) struct Received {
    /// The document without the tarball's data. Not checked yet.
    pub(crate) document: Bytes,
    /// The tarball, if there was one.
    pub(crate) tarball: Option<Tarball>,
    /// The text of a Sigstore bundle, if it came beside the document and not in it.
    pub(crate) bundle: Option<Bytes>,
}

/// A tarball that is stored and not visible.
pub(crate) struct Tarball {
    /// The name that the client gave it.
    pub(crate) attachment: String,
    /// File name it is going to have, if the package was known beforehand.
    pub(crate) file: Option<String>,
    pub(crate) staged: Staged,
    /// Its bytes, while they are few enough to be in memory anyway.
    pub(crate) small: Option<Vec<Bytes>>,
    /// What is inside; `None` when looking is switched off.
    pub(crate) inside: Option<Inspected>,
}

/// Reads the body of `request`.
pub(crate) async fn receive(
    npm: &Npm,
    cx: &Cx,
    name: &PackageName,
    request: &mut Request,
) -> Result<Received> {
    let coding = body::coding(request)?;
    let body = request.take_body();
    // Base64 makes four of three. Of a compressed body nothing is known.
    let expected = body.length().filter(|_| coding == Coding::Plain).map(|length| length / 4 * 3);
    let mut intake = Intake::new(npm, cx, Some(name), coding, expected);
    match body {
        Body::Json(GivenJson { text, attachments }) => {
            for (attachment, data) in attachments {
                intake = intake.given(&attachment, data).await?;
            }
            intake = intake.take(text).await?;
        }
        Body::Form(_) => {
            return Err(Error::new(Kind::UnsupportedMedia, "a package is published as JSON, not as a form"));
        }
        body => {
            let mut stream = body.into_stream()?;
            while let Some(chunk) = stream.next().await {
                intake = intake.take(chunk?).await?;
            }
        }
    }
    intake.finish().await
}

/// One publish document on its way in.
pub(crate) struct Intake<'a> {
    machine: Box<Machine>,
    sink: Sink<'a>,
    bundle: Option<Bytes>,
}

impl<'a> Intake<'a> {
    /// For a document of about `expected` bytes of tarball, about the package `name`, if that is known beforehand.
    pub(crate) fn new(
        npm: &Npm,
        cx: &'a Cx,
        name: Option<&'a PackageName>,
        coding: Coding,
        expected: Option<u64>,
    ) -> Self {
        let limits = IntakeLimits {
            document: npm.limits.packument,
            around: npm.limits.metadata,
            attachment: npm.limits.artifact,
        };
        let unpack = npm.inspect.then_some(ArchiveLimits::unpacked(npm.limits.unpacked));
        Self {
            machine: Machine::new(limits, unpack, coding),
            sink: Sink { cx, name, expected, open: None },
            bundle: None,
        }
    }

    /// The next bytes of the document.
    pub(crate) async fn take(mut self, chunk: Bytes) -> Result<Self> {
        self.machine = feed(self.machine, &mut self.sink, chunk).await?;
        Ok(self)
    }

    /// An attachment that the host's adapter took out of the parsed document.
    async fn given(mut self, attachment: &str, data: Bytes) -> Result<Self> {
        if attachment.ends_with(BUNDLE) {
            self.bundle = Some(data);
            return Ok(self);
        }
        self.machine = given_attachment(self.machine, &mut self.sink, attachment, data).await?;
        self.machine.given = true;
        Ok(self)
    }

    /// The document is over.
    pub(crate) async fn finish(mut self) -> Result<Received> {
        let (document, events, inside) = self.machine.finish()?;
        self.sink.take(events).await?;
        let tarball = match self.sink.open {
            None => None,
            Some(open) => Some(Tarball {
                attachment: open.attachment,
                file: open.file,
                staged: open.writer.finish().await?,
                small: open.small,
                inside,
            }),
        };
        Ok(Received { document, tarball, bundle: self.bundle })
    }
}

async fn feed(mut machine: Box<Machine>, sink: &mut Sink<'_>, mut chunk: Bytes) -> Result<Box<Machine>> {
    let size = if machine.gunzip.is_some() { GZIP_PIECE } else { PIECE };
    while !chunk.is_empty() {
        let piece = chunk.split_to(chunk.len().min(size));
        let events;
        (machine, events) = if piece.len() <= INLINE && machine.gunzip.is_none() {
            let events = machine.step(&piece)?;
            (machine, events)
        } else {
            // The work has a known size: it waits for nobody, so a slow client holds no thread.
            let work = move || machine.step(&piece).map(|events| (machine, events));
            tokio::task::spawn_blocking(work)
                .await
                .map_err(|error| Error::internal("taking a publish body apart failed").with_source(error))??
        };
        sink.take(events).await?;
    }
    Ok(machine)
}

/// An attachment that the host's adapter took out of the parsed document.
async fn given_attachment(
    machine: Box<Machine>,
    sink: &mut Sink<'_>,
    attachment: &str,
    data: Bytes,
) -> Result<Box<Machine>> {
    if memchr::memchr2(b'"', b'\\', &data).is_some() {
        return Err(Error::invalid("the attachment's data is no base64"));
    }
    let key = serde_json::to_string(attachment).unwrap_or_default();
    let document = machine.splitter.clone_limits();
    let mut machine = machine;
    let own = std::mem::replace(&mut machine.splitter, document);
    for piece in
        [Bytes::from(format!("{{\"_attachments\":{{{key}:{{\"data\":\"")), data, Bytes::from_static(b"\"}}}")]
    {
        machine = feed(machine, sink, piece).await?;
    }
    machine.splitter = own;
    Ok(machine)
}

/// The part that only computes: undoes gzip, splits, decodes, unpacks.
struct Machine {
    gunzip: Option<Gunzip>,
    splitter: Splitter,
    unpack: Option<ArchiveLimits>,
    check: Option<TarGz<Inspector>>,
    inside: Option<Inspected>,
    attachments: u32,
    /// Whether the tarball came beside the document, in which an empty text stands for it.
    given: bool,
}

impl Machine {
    fn new(limits: IntakeLimits, unpack: Option<ArchiveLimits>, coding: Coding) -> Box<Self> {
        Box::new(Self {
            gunzip: (coding == Coding::Gzip).then(Gunzip::new),
            splitter: Splitter::new(limits),
            unpack,
            check: None,
            inside: None,
            attachments: 0,
            given: false,
        })
    }

    fn step(&mut self, piece: &[u8]) -> Result<Vec<Event>> {
        match &mut self.gunzip {
            None => self.split(piece),
            Some(gunzip) => {
                let plain = gunzip.feed(piece)?;
                self.split(&plain)
            }
        }
    }

    fn split(&mut self, plain: &[u8]) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        self.splitter.feed(plain, &mut events)?;
        if self.given && events.iter().all(|event| !matches!(event, Event::Data(_))) {
            return Ok(Vec::new());
        }
        for event in &events {
            match event {
                Event::Begin(_) => {
                    self.attachments += 1;
                    if self.attachments > 1 {
                        return Err(Error::invalid("a publish must have exactly one tarball"));
                    }
                    self.check = self.unpack.map(|limits| TarGz::new(Inspector::default(), limits));
                }
                Event::Data(data) => {
                    if let Some(check) = &mut self.check {
                        check.feed(data)?;
                    }
                }
                Event::End => {
                    self.inside = self.check.take().map(|check| check.finish()?.finish()).transpose()?;
                }
            }
        }
        Ok(events)
    }

    fn finish(mut self: Box<Self>) -> Result<(Bytes, Vec<Event>, Option<Inspected>)> {
        let events = match self.gunzip.take() {
            None => Vec::new(),
            Some(gunzip) => {
                let rest = gunzip.finish()?;
                self.split(&rest)?
            }
        };
        Ok((self.splitter.finish()?, events, self.inside))
    }
}

/// Where the tarball goes.
struct Sink<'a> {
    cx: &'a Cx,
    /// Without it the bytes wait in a private place.
    name: Option<&'a PackageName>,
    expected: Option<u64>,
    open: Option<Open>,
}

struct Open {
    attachment: String,
    file: Option<String>,
    writer: Writer,
    small: Option<Vec<Bytes>>,
}

impl Sink<'_> {
    async fn take(&mut self, events: Vec<Event>) -> Result<()> {
        for event in events {
            match event {
                Event::Begin(attachment) => self.open = Some(self.begin(attachment).await?),
                Event::Data(data) => {
                    let Some(open) = &mut self.open else { continue };
                    if let Some(small) = &mut open.small {
                        small.push(data.clone());
                    }
                    if open.writer.length() + data.len() as u64 > self.cx.objects.capabilities().part_size {
                        open.small = None;
                    }
                    open.writer.write(data).await?;
                }
                Event::End => {}
            }
        }
        Ok(())
    }

    async fn begin(&self, attachment: String) -> Result<Open> {
        let objects = &self.cx.objects;
        let algorithms = [Algorithm::Sha1, Algorithm::Sha512];
        let Some(name) = self.name else {
            let writer = objects.writer(None, &algorithms, self.expected)?;
            return Ok(Open { attachment, file: None, writer, small: Some(Vec::new()) });
        };
        let version = attachment_version(name, &attachment).ok_or_else(|| {
            let said = super::name::printable(&attachment);
            Error::invalid(format!("the attachment `{said}` is not called after {name} and a version"))
        })?;
        let mut file = keys::tarball(name, &version);
        // A large tarball can't be put elsewhere once it is found that its place is taken: look before. A small one can.
        let large = self.expected.is_none_or(|size| size > objects.capabilities().part_size);
        if large && objects.stat(&keys::file(name, &file)?).await?.is_some() {
            file = keys::other_tarball(name, &version);
        }
        let writer = objects.writer(Some(&keys::file(name, &file)?), &algorithms, self.expected)?;
        Ok(Open { attachment, file: Some(file), writer, small: Some(Vec::new()) })
    }
}
