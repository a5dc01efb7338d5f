// Headers and query parameters: any shape in, flat lists for the binding; flat lists out, an object in canonical case for the user.
'use strict';

/** Names that are not just capitalised word by word. Users index answers by these. */
const SPECIAL = [
  'ETag',
  'WWW-Authenticate',
  'TE',
  'DNT',
  'Docker-Upload-UUID',
  'Docker-Distribution-API-Version',
  'OCI-Subject',
  'OCI-Filters-Applied',
  'OCI-Chunk-Min-Length',
  'OCI-Chunk-Max-Length',
  'OCI-Tag',
  'X-PyPI-Last-Serial',
  'X-Checksum-SHA1',
  'X-Checksum-SHA256',
  'X-Checksum-SHA512',
  'X-Checksum-MD5',
  'Content-MD5',
  'X-Request-ID',
  'X-XSS-Protection',
];

/** Grows only by names that the registry itself sends. */
const canonicalNames = new Map(SPECIAL.map((name) => [name.toLowerCase(), name]));

/** @param {string} lower */
function canonical(lower) {
  let name = canonicalNames.get(lower);
  if (name === undefined) {
    name = lower.replace(/(^|-)[a-z]/g, (start) => start.toUpperCase());
    canonicalNames.set(lower, name);
  }
  return name;
}

/**
 * The answer's headers as users index them. A repeated one is joined, as HTTP allows for all that the registry repeats.
 *
 * @param {string} text `name\nvalue\nname\nvalue …`
 */
function headersObject(text) {
  const flat = text.split('\n');
  /** @type {Record<string, string>} */
  const headers = {};
  for (let i = 0; i < flat.length; i += 2) {
    const name = canonical(flat[i]);
    headers[name] = name in headers ? `${headers[name]}, ${flat[i + 1]}` : flat[i + 1];
  }
  return headers;
}

/** The answer's headers for `writeHead`: `[Name, value, Name, value, …]`, repeats kept. */
function headersList(text) {
  const list = text.split('\n');
  for (let i = 0; i < list.length; i += 2) list[i] = canonical(list[i]);
  return list;
}

function add(out, name, value) {
  if (value === undefined || value === null) return;
  if (Array.isArray(value)) for (const one of value) add(out, name, one);
  else out.push(String(name), String(value));
}

function addNested(out, name, value) {
  if (value !== null && typeof value === 'object' && !Array.isArray(value)) {
    // Express parses `a[b]=c` into an object; it goes back to what the client wrote.
    for (const key of Object.keys(value)) addNested(out, `${name}[${key}]`, value[key]);
  } else if (Array.isArray(value)) {
    for (const one of value) addNested(out, name, one);
  } else add(out, name, value);
}

/** Pairs of anything that has them: `Headers`, `Map`, `URLSearchParams`, an array of pairs, or a flat list as `req.rawHeaders`. */
function fromIterable(given, out) {
  if (Array.isArray(given) && typeof given[0] === 'string') {
    for (let i = 0; i + 1 < given.length; i += 2) add(out, given[i], given[i + 1]);
    return out;
  }
  for (const [name, value] of given) add(out, name, value);
  return out;
}

/**
 * `[name, value, name, value, …]` of headers in any shape; order and repeats are kept.
 *
 * @param {any} given
 * @returns {string[]}
 */
function flatHeaders(given) {
  const out = [];
  if (given === undefined || given === null) return out;
  if (typeof given[Symbol.iterator] === 'function' && typeof given !== 'string') return fromIterable(given, out);
  for (const name of Object.keys(given)) add(out, name, given[name]);
  return out;
}

/**
 * The same of query parameters.
 *
 * @param {any} given
 * @returns {string[]}
 */
function flatQuery(given) {
  const out = [];
  if (given === undefined || given === null) return out;
  if (typeof given === 'string') return fromIterable(new URLSearchParams(given), out);
  if (typeof given[Symbol.iterator] === 'function') return fromIterable(given, out);
  for (const name of Object.keys(given)) addNested(out, name, given[name]);
  return out;
}

/**
 * The first value of a header in a flat list.
 *
 * @param {string[]} flat
 * @param {string} lower
 */
function find(flat, lower) {
  for (let i = 0; i < flat.length; i += 2) if (flat[i].length === lower.length && flat[i].toLowerCase() === lower) return flat[i + 1];
  return undefined;
}

/**
 * A flat list as the binding takes it. What has a line break in it is no header.
 *
 * @param {string[]} flat
 */
function headersText(flat) {
  const text = flat.join('\n');
  let breaks = 0;
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) breaks += 1;
  if (breaks === Math.max(flat.length - 1, 0)) return text;
  const sound = [];
  for (let i = 0; i + 1 < flat.length; i += 2) if (!flat[i].includes('\n') && !flat[i + 1].includes('\n')) sound.push(flat[i], flat[i + 1]);
  return sound.join('\n');
}

module.exports = { headersText, headersObject, headersList, flatHeaders, flatQuery, find };
