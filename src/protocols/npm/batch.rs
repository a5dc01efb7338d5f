//! `PUT /-/pnpm/v1/publish`: several packages in one request (`pnpm publish -r --batch`), all or none.
//!
//! The body is `{"packages":[document, …]}`, each document as it would be sent alone. It streams: when a document is over, its tarball is
//! stored under its final name, where nothing names it yet; when all are here and none would be refused, the packuments are changed one
//! after another. If one is refused then all the same, somebody else was faster, and those before it are taken back.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use serde_json::json;
use serde_json::value::RawValue;

use super::body::{self, Coding};
use super::decode::Gunzip;
use super::edit::{self, NewRelease, Published};
use super::json::{self, Members};
use super::model::Packument;
use super::name::PackageName;
use super::upload::{Intake, Received};
use super::{Npm, access, change, factor, keys, publish};
use crate::core::id;
use crate::core::secret::Secret;
use crate::protocols::prelude::*;

/// Most packages in one request.
const MOST: usize = 1000;
/// Largest text around the packages.
const AROUND: usize = 64 << 10;
/// A byte of gzip gives a thousand at most.
const GZIP_PIECE: usize = 4 << 10;

/// A package of the batch whose files are stored.
struct Item {
    name: PackageName,
    new: NewRelease,
}

/// Answers the request.
pub(crate) async fn publish_all(npm: &Npm, cx: &Cx, mut request: Request) -> Result<Response> {
    cx.require_user()?;
    let mut items = Vec::new();
    let outcome = match receive(npm, cx, &mut request, &mut items).await {
        Ok(()) => commit_all(cx, &mut items).await,
        Err(error) => Err(error),
    };
    let done = match outcome {
        Ok(done) => done,
        Err(error) => {
            // What is still in the list is named by no packument.
            for item in &items {
                publish::discard(cx, &item.name, &item.new).await?;
            }
            return Err(error);
        }
    };
    let answer = json!({ "ok": true, "success": true, "packages": done });
    Ok(Response::json(StatusCode::CREATED, &answer))
}

/// Takes the body apart and stores the files of each package.
async fn receive(npm: &Npm, cx: &Cx, request: &mut Request, items: &mut Vec<Item>) -> Result<()> {
    let mut gunzip = (body::coding(request)? == Coding::Gzip).then(Gunzip::new);
    let mut splitter = Packages::new();
    let mut open: Option<Intake<'_>> = None;
    let code = factor::code(request);
    let mut stream = match request.take_body() {
        Body::Json(given) => Body::from(given.text).into_stream()?,
        body => body.into_stream()?,
    };
    let mut feed = async |data: Bytes| -> Result<()> {
        for event in splitter.feed(&data)? {
            match event {
                Event::Begin => open = Some(Intake::new(npm, cx, None, Coding::Plain, None)),
                Event::Piece(piece) => {
                    if let Some(intake) = open.take() {
                        open = Some(intake.take(piece).await?);
                    }
                }
                Event::End => {
                    let Some(intake) = open.take() else { continue };
                    items.push(one(npm, cx, intake.finish().await?, code.as_ref()).await?);
                }
            }
        }
        Ok(())
    };
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        let Some(gunzip) = &mut gunzip else {
            feed(chunk).await?;
            continue;
        };
        for piece in chunk.chunks(GZIP_PIECE) {
            feed(gunzip.feed(piece)?.into()).await?;
        }
    }
    if let Some(gunzip) = gunzip {
        feed(gunzip.finish()?.into()).await?;
    }
    splitter.finish(items.len())
}

/// Checks one package of the batch and stores its files.
async fn one(npm: &Npm, cx: &Cx, received: Received, code: Option<&Secret>) -> Result<Item> {
    let Some(name) = Members::parse(&received.document).and_then(|members| members.text("name")) else {
        return Err(Error::invalid("a document of the batch has no `name`"));
    };
    let name = PackageName::parse(&name)?;
    access::require(cx, &name, Action::Write).await?;
    access::may_publish(cx)?;
    factor::guard(cx, code, Some(name.as_str())).await?;
    let new = publish::store(npm, cx, &name, received).await?;
    Ok(Item { name, new })
}

/// Commits each package, after a look whether any would be refused. What is committed is taken out of `items`.
async fn commit_all(cx: &Cx, items: &mut Vec<Item>) -> Result<Vec<serde_json::Value>> {
    if items.is_empty() {
        return Err(Error::invalid("the batch has no packages"));
    }
    let tags_before = look(cx, items).await?;
    let mut done: Vec<(Item, Published)> = Vec::new();
    while !items.is_empty() {
        let item = items.remove(0);
        match publish::commit(cx, &item.name, &item.new).await {
            Ok(published) => done.push((item, published)),
            Err(error) => {
                for (item, published) in done {
                    if matches!(published, Published::New(_)) {
                        take_back(cx, item, &tags_before).await?;
                    }
                }
                return Err(error);
            }
        }
    }
    let answer = |(item, published): &(Item, Published)| {
        let (Published::New(rev) | Published::Again(rev, _)) = published;
        json!({ "id": item.name.as_str(), "version": item.new.version, "rev": rev })
    };
    Ok(done.iter().map(answer).collect())
}

type Tags = BTreeMap<PackageName, BTreeMap<String, String>>;

/// Whether each package would be taken, and the tags of each as they are.
async fn look(cx: &Cx, items: &[Item]) -> Result<Tags> {
    let mut seen = BTreeSet::new();
    let mut tags = Tags::new();
    for item in items {
        if !seen.insert((item.name.as_str(), item.new.version.as_str())) {
            return Err(Error::invalid(format!("{}@{} is in the batch twice", item.name, item.new.version)));
        }
        let loaded: Option<Arc<Loaded<Packument>>> =
            cx.objects.document_revalidated(&keys::index(&item.name)?).await?;
        let mut packument = loaded.map(|loaded| loaded.document.clone()).unwrap_or_default();
        tags.entry(item.name.clone()).or_insert_with(|| packument.tags.clone());
        edit::add_version(&mut packument, &item.new)?;
    }
    Ok(tags)
}

async fn take_back(cx: &Cx, item: Item, tags: &Tags) -> Result<()> {
    let before = tags.get(&item.name).cloned().unwrap_or_default();
    let info = ObjectInfo::of(item.name.as_str()).version(&item.new.version);
    let new = item.new.clone();
    let undo = move |packument: &mut Packument| Ok(edit::take_back(packument, &new, &before));
    change::update(cx, &item.name, change::Event::about("unpublish", &item.new.version), &info, undo).await?;
    publish::discard(cx, &item.name, &item.new).await
}

/// What came out of a piece of the body.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Begin,
    Piece(Bytes),
    End,
}

/// Finds the documents in `{"packages":[…]}`. It knows of JSON what a text and a bracket are; each document is checked by who takes it, and
/// what is around them here, with a mark in the place of each.
struct Packages {
    /// JSON text that a client can't know: where it is found afterwards, a document was.
    mark: String,
    depth: usize,
    in_text: bool,
    escaped: bool,
    in_document: bool,
    count: usize,
    around: Vec<u8>,
}

impl Packages {
    fn new() -> Self {
        Self {
            mark: format!("\"{}\"", id::uuid()),
            depth: 0,
            in_text: false,
            escaped: false,
            in_document: false,
            count: 0,
            around: Vec::new(),
        }
    }

    fn feed(&mut self, data: &Bytes) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        let mut from = 0;
        for (at, byte) in data.iter().enumerate() {
            if self.in_text {
                self.text(*byte);
            } else {
                match byte {
                    b'"' => self.in_text = true,
                    b'{' | b'[' => {
                        // The third bracket from outside is the one of a document, if there is nothing but `packages`.
                        if self.depth == 2 && !self.in_document && *byte == b'{' {
                            self.keep(data.get(from..at))?;
                            self.begin()?;
                            events.push(Event::Begin);
                            from = at;
                        }
                        self.depth += 1;
                    }
                    b'}' | b']' => {
                        self.depth = self.depth.saturating_sub(1);
                        if self.depth == 2 && self.in_document {
                            self.in_document = false;
                            events.push(Event::Piece(data.slice(from..=at)));
                            events.push(Event::End);
                            from = at + 1;
                        }
                    }
                    _ => {}
                }
            }
        }
        if self.in_document {
            events.push(Event::Piece(data.slice(from..)));
        } else {
            self.keep(data.get(from..))?;
        }
        Ok(events)
    }

    fn text(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_text = false,
            _ => {}
        }
    }

    fn begin(&mut self) -> Result<()> {
        self.around.extend_from_slice(self.mark.as_bytes());
        self.in_document = true;
        self.count += 1;
        if self.count > MOST {
            return Err(Error::new(Kind::TooLarge, format!("a batch may have {MOST} packages at most")));
        }
        Ok(())
    }

    fn keep(&mut self, data: Option<&[u8]>) -> Result<()> {
        self.around.extend_from_slice(data.unwrap_or_default());
        if self.around.len() > AROUND + self.count * self.mark.len() {
            return Err(Error::too_large("what is around the packages of the batch", AROUND as u64));
        }
        Ok(())
    }

    /// The body is over; `taken` documents were.
    fn finish(self, taken: usize) -> Result<()> {
        json::check(&self.around)?;
        let list: Option<Vec<&RawValue>> =
            Members::parse(&self.around).and_then(|members| members.read("packages"));
        let is_whole =
            |list: Vec<&RawValue>| list.len() == taken && list.iter().all(|one| one.get() == self.mark);
        if self.in_document || !list.is_some_and(is_whole) {
            return Err(Error::invalid(
                "the batch must be `{\"packages\":[…]}` with one document per package",
            ));
        }
        Ok(())
    }
}

/// The documents of a batch that is fed in these pieces. For tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn documents(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
    let mut packages = Packages::new();
    let (mut found, mut open) = (Vec::new(), Vec::new());
    for piece in pieces {
        for event in packages.feed(&Bytes::copy_from_slice(piece))? {
            match event {
                Event::Begin => open.clear(),
                Event::Piece(piece) => open.extend_from_slice(&piece),
                Event::End => found.push(open.clone()),
            }
        }
    }
    packages.finish(found.len())?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str, step: usize) -> Result<Vec<String>> {
        let found = documents(&text.as_bytes().chunks(step).collect::<Vec<_>>())?;
        Ok(found.into_iter().map(|one| String::from_utf8(one).unwrap()).collect())
    }

    #[test]
    fn documents_come_out_whole_however_they_are_cut() {
        let one = r#"{"name":"a","x":{"y":["]}","\"{",{}]}}"#;
        for text in [
            format!(r#"{{"packages":[{one},{one}]}}"#),
            format!(" {{ \"packages\" : [ {one} , {one} ] , \"n\" : {{ \"x\": 1 }} }} "),
        ] {
            for step in [1, 2, 3, 7, 1000] {
                assert_eq!(split(&text, step).unwrap(), [one, one], "{text} {step}");
            }
        }
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"packages":{}}"#,
            r#"{"packages":[1]}"#,
            r#"{"packages":[{}"#,
            r#"{"packages":[{}}"#,
            r#"{"packages":[{},[]]}"#,
            r#"{"packages":[[{}]]}"#,
            r#"{"other":[{}]}"#,
            r#"{"packages":[{}],"other":[{}]}"#,
            // As many numbers, or whatever else, as there are documents elsewhere.
            r#"{"packages":[0],"other":[{}]}"#,
            r#"{"packages":["0"],"other":[{}]}"#,
            r#"{"packages":[{}],"packages":[{}]}"#,
            r#"{"packages":[{}{}]}"#,
        ] {
            for step in [1, 1000] {
                assert!(split(bad, step).is_err(), "{bad} {step}");
            }
        }
        assert_eq!(split(r#"{"packages":[]}"#, 3).unwrap().len(), 0);
    }
}
