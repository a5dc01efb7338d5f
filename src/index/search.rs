//! Full-text search over names, descriptions and keywords, in memory. Made when somebody first searches, never at start.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::value::RawValue;
use tantivy::collector::{Count, TopDocs};
use tantivy::query::{AllQuery, BooleanQuery, BoostQuery, FuzzyTermQuery, Occur, Query, TermQuery};
use tantivy::schema::{FAST, Field, IndexRecordOption, STORED, STRING, Schema, TEXT, Value as _};
use tantivy::{Index, IndexReader, IndexWriter, Order, ReloadPolicy, TantivyDocument, Term};

use super::entry::Entry;
use super::log::Reach;
use crate::core::error::{Error, Result};

/// What the writer may hold before it makes a piece of the index of it, in bytes: as little as it takes.
const ARENA: usize = 15_000_000;
/// Shortest beginning of a word that finds it.
const MIN_PREFIX: usize = 2;

/// The one term of the field of that name.
const PRIVATE: &str = "yes";

/// What to look for. All words must be found; each somewhere.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Words of the text, in any case.
    pub words: Vec<String>,
    /// Only with all of these keywords.
    pub keywords: Vec<String>,
    /// Only by these people.
    pub people: Vec<String>,
    /// Only in this scope: what stands between `@` and the slash.
    pub scope: Option<String>,
    /// Whether a name that is exactly what was asked for is nothing special.
    pub plain: bool,
}

/// The answer to a question.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// How many fit.
    pub total: usize,
    /// Of these, how many are private by their own setting.
    pub private: usize,
    /// Those that were asked for.
    pub hits: Vec<Hit>,
}

/// Something that was found.
#[derive(Debug, Clone)]
pub struct Hit {
    /// Its name.
    pub name: String,
    /// How well it fits; only good for comparing.
    pub score: f32,
    /// [`super::Card::description`].
    pub description: String,
    /// [`super::Card::keywords`].
    pub keywords: Vec<String>,
    /// [`super::Card::shown`].
    pub shown: Option<Box<RawValue>>,
}

#[derive(Clone, Copy)]
struct Fields {
    name: Field,
    exact: Field,
    words: Field,
    description: Field,
    keywords: Field,
    keyword: Field,
    people: Field,
    scope: Field,
    private: Field,
    serial: Field,
    shown: Field,
}

/// The index as of one place in the log.
pub(super) struct Search {
    /// Everything up to here is in it.
    pub(super) reach: Reach,
    fields: Fields,
    writer: IndexWriter,
    reader: IndexReader,
}

impl Search {
    pub(super) fn new() -> Result<Self> {
        let mut schema = Schema::builder();
        let fields = Fields {
            name: schema.add_text_field("name", STRING | STORED),
            exact: schema.add_text_field("exact", STRING),
            words: schema.add_text_field("words", TEXT),
            description: schema.add_text_field("description", TEXT | STORED),
            keywords: schema.add_text_field("keywords", TEXT | STORED),
            keyword: schema.add_text_field("keyword", STRING),
            people: schema.add_text_field("people", STRING),
            scope: schema.add_text_field("scope", STRING),
            private: schema.add_text_field("private", STRING),
            serial: schema.add_u64_field("serial", FAST),
            shown: schema.add_text_field("shown", STORED),
        };
        let index = Index::create_in_ram(schema.build());
        let writer = index.writer_with_num_threads(1, ARENA).map_err(failed)?;
        // Reloaded by hand, right after a commit.
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(failed)?;
        Ok(Self { reach: Reach::default(), fields, writer, reader })
    }

    /// Brings it up to `reach`. Takes as long as there are entries: not for an async thread.
    pub(super) fn take(&mut self, entries: &[Arc<Entry>], reach: Reach) -> Result<()> {
        if self.reach.epoch != reach.epoch {
            self.writer.delete_all_documents().map_err(failed)?;
        }
        let mut last: HashMap<&str, &Arc<Entry>> = HashMap::new();
        for entry in entries {
            let known = last.entry(&entry.name).or_insert(entry);
            if known.serial < entry.serial {
                *known = entry;
            }
        }
        // What fits equally well comes in the order in which it was entered: the shorter name first.
        let mut last: Vec<_> = last.into_values().collect();
        last.sort_by_key(|entry| (entry.name.len(), entry.name.clone()));
        for entry in last {
            self.writer.delete_term(Term::from_field_text(self.fields.name, &entry.name));
            if !entry.gone {
                self.writer.add_document(self.document(entry)).map_err(failed)?;
            }
        }
        self.writer.commit().map_err(failed)?;
        self.reader.reload().map_err(failed)?;
        self.reach = reach;
        Ok(())
    }

    fn document(&self, entry: &Entry) -> TantivyDocument {
        let fields = &self.fields;
        let mut document = TantivyDocument::new();
        let lower = entry.name.to_lowercase();
        document.add_text(fields.name, &entry.name);
        document.add_text(fields.words, &lower);
        document.add_text(fields.exact, &lower);
        if let Some((scope, unscoped)) = lower.split_once('/') {
            document.add_text(fields.exact, unscoped);
            document.add_text(fields.scope, scope.trim_start_matches('@'));
        }
        document.add_u64(fields.serial, entry.serial);
        if let Some(card) = &entry.card {
            document.add_text(fields.description, &card.description);
            for keyword in &card.keywords {
                document.add_text(fields.keywords, keyword);
                document.add_text(fields.keyword, keyword.to_lowercase());
            }
            for person in &card.people {
                document.add_text(fields.people, person.to_lowercase());
            }
            if card.private {
                document.add_text(fields.private, PRIVATE);
            }
            if let Some(shown) = &card.shown {
                document.add_text(fields.shown, shown.get());
            }
        }
        document
    }

    /// How the index is asked; cheap, so that nothing is locked while it works.
    pub(super) fn asker(&self, wanted: &Wanted) -> Asker {
        Asker {
            searcher: self.reader.searcher(),
            query: self.fields.query(wanted),
            private: term(self.fields.private, PRIVATE),
            newest_first: wanted.words.is_empty(),
            fields: self.fields,
        }
    }
}

/// One question.
pub(super) struct Asker {
    searcher: tantivy::Searcher,
    query: Box<dyn Query>,
    private: Box<dyn Query>,
    newest_first: bool,
    fields: Fields,
}

impl Asker {
    /// What fits: `limit` of it after the first `offset`, best first; without words, newest first. Not for an async thread.
    pub(super) fn ask(&self, offset: usize, limit: usize) -> Result<Found> {
        // The engine makes room for all of it before it looks, and whoever asks says how much.
        let most = usize::try_from(self.searcher.num_docs()).unwrap_or(usize::MAX);
        let offset = offset.min(most);
        let top = TopDocs::with_limit(limit.min(most - offset).max(1)).and_offset(offset);
        let (total, found) = if self.newest_first {
            let newest = top.order_by_u64_field("serial", Order::Desc);
            let (total, found) = self.searcher.search(&self.query, &(Count, newest)).map_err(failed)?;
            (total, found.into_iter().map(|(_, address)| (1.0, address)).collect::<Vec<_>>())
        } else {
            self.searcher.search(&self.query, &(Count, top.order_by_score())).map_err(failed)?
        };
        let mut hits = Vec::with_capacity(found.len());
        for (score, address) in found {
            let document: TantivyDocument = self.searcher.doc(address).map_err(failed)?;
            hits.extend(self.hit(score, &document));
        }
        if !self.newest_first {
            hits.sort_by(|one, other| {
                other.score.total_cmp(&one.score).then(one.name.len().cmp(&other.name.len()))
            });
        }
        Ok(Found { total, private: self.count_private()?, hits })
    }

    fn hit(&self, score: f32, document: &TantivyDocument) -> Option<Hit> {
        let text = |field| document.get_first(field).and_then(|value| value.as_str().map(str::to_owned));
        let keywords = document.get_all(self.fields.keywords);
        Some(Hit {
            name: text(self.fields.name)?,
            score,
            description: text(self.fields.description).unwrap_or_default(),
            keywords: keywords.filter_map(|value| value.as_str().map(str::to_owned)).collect(),
            shown: text(self.fields.shown).and_then(|text| RawValue::from_string(text).ok()),
        })
    }

    fn count_private(&self) -> Result<usize> {
        let both = vec![(Occur::Must, self.query.box_clone()), (Occur::Must, self.private.box_clone())];
        self.searcher.search(&BooleanQuery::new(both), &Count).map_err(failed)
    }
}

impl Fields {
    fn query(&self, wanted: &Wanted) -> Box<dyn Query> {
        let mut all: Vec<(Occur, Box<dyn Query>)> = wanted
            .words
            .iter()
            .map(|word| (Occur::Must, self.word(&word.to_lowercase(), wanted.plain)))
            .collect();
        if wanted.words.len() > 1 && !wanted.plain {
            // `left pad` means `left-pad` above all.
            for glue in ["-", "", "."] {
                let name = wanted.words.join(glue).to_lowercase();
                all.push((Occur::Should, boosted(term(self.exact, &name), 20.0)));
            }
        }
        let terms = |field: Field, values: &[String]| {
            values.iter().map(|value| term(field, &value.to_lowercase())).collect::<Vec<_>>()
        };
        let mut filters = terms(self.keyword, &wanted.keywords);
        filters.extend(terms(self.people, &wanted.people));
        filters.extend(terms(self.scope, wanted.scope.as_slice()));
        all.extend(filters.into_iter().map(|filter| (Occur::Must, boosted(filter, 0.0))));
        if all.is_empty() { Box::new(AllQuery) } else { Box::new(BooleanQuery::new(all)) }
    }

    /// A word: the whole name before a part of it, that before the beginning of a part, that before what describes it.
    fn word(&self, word: &str, plain: bool) -> Box<dyn Query> {
        let mut ways = vec![boosted(term(self.exact, word), if plain { 1.0 } else { 30.0 })];
        // A name such as `left-pad` is several words of the index.
        let parts: Vec<&str> =
            word.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()).collect();
        for (field, boost) in [(self.words, 6.0), (self.keywords, 3.0), (self.description, 1.0)] {
            let parts = parts.iter().map(|part| (Occur::Must, term(field, part))).collect::<Vec<_>>();
            if !parts.is_empty() {
                ways.push(boosted(Box::new(BooleanQuery::new(parts)), boost));
            }
        }
        if let Some(last) = parts.last().filter(|last| last.len() >= MIN_PREFIX) {
            let mut beginning: Vec<(Occur, Box<dyn Query>)> = vec![(
                Occur::Must,
                Box::new(FuzzyTermQuery::new_prefix(Term::from_field_text(self.words, last), 0, false)),
            )];
            beginning
                .extend(parts.iter().take(parts.len() - 1).map(|part| (Occur::Must, term(self.words, part))));
            ways.push(boosted(Box::new(BooleanQuery::new(beginning)), 2.0));
        }
        Box::new(BooleanQuery::new(ways.into_iter().map(|way| (Occur::Should, way)).collect()))
    }
}

fn term(field: Field, text: &str) -> Box<dyn Query> {
    Box::new(TermQuery::new(Term::from_field_text(field, text), IndexRecordOption::WithFreqs))
}

fn boosted(query: Box<dyn Query>, boost: f32) -> Box<dyn Query> {
    Box::new(BoostQuery::new(query, boost))
}

fn failed(error: tantivy::TantivyError) -> Error {
    Error::internal("the search index failed").with_source(error)
}
