// The forms a request body may have, each as the binding takes it.
'use strict';

const { find } = require('./headers.cjs');
const { isIncoming, lost, upload } = require('./upload.cjs');
const { RegistryError } = require('./errors.cjs');

/** Strings from this length on are taken out of a JSON document: `JSON.stringify` looks at every character of them. */
const LONG = 4096;

/** What a client may send that is an empty JSON object, with its blanks. More than that was something else. */
const BLANK = 64;

const isBytes = (value) => ArrayBuffer.isView(value) || value instanceof ArrayBuffer || (typeof SharedArrayBuffer === 'function' && value instanceof SharedArrayBuffer);

/** The same memory as a Buffer, whatever its view. */
function view(value) {
  if (Buffer.isBuffer(value)) return value;
  return ArrayBuffer.isView(value) ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : Buffer.from(value);
}

const isStream = (value) =>
  typeof value.getReader === 'function' || (typeof value.pipe === 'function' && typeof value.on === 'function') || typeof value[Symbol.asyncIterator] === 'function';

/** The content of a file as multer and its relatives give it, `{ buffer, originalname, mimetype, … }`, or `data` as others call it. */
function contentOf(value) {
  if (value === null || typeof value !== 'object' || isBytes(value)) return undefined;
  return [value.buffer, value.data].find(isBytes);
}

const isFile = (value) => contentOf(value) !== undefined;

/** A file that the form parser keeps elsewhere, as multer's disk storage does. */
const isKeptElsewhere = (value) => value !== null && typeof value === 'object' && typeof value.fieldname === 'string' && typeof value.originalname === 'string';

function stringify(value) {
  try {
    return JSON.stringify(value);
  } catch (error) {
    throw new RegistryError(`the body is no JSON document: ${error.message}`, { status: 400, cause: error });
  }
}

/** A parsed document. The base64 of an npm publish goes beside it; the user's object is left as it is. */
function json(body) {
  const given = body._attachments;
  if (given === null || typeof given !== 'object') return { json: stringify(body) };
  const attachments = [];
  const rest = {};
  for (const [name, entry] of Object.entries(given)) {
    if (typeof entry?.data === 'string' && entry.data.length >= LONG) {
      const { data, ...fields } = entry;
      attachments.push(name, data);
      rest[name] = fields;
    } else rest[name] = entry;
  }
  return { json: stringify({ ...body, _attachments: rest }), attachments };
}

function addField(fields, name, value) {
  if (value === undefined || value === null) return;
  if (Array.isArray(value)) for (const one of value) addField(fields, name, one);
  else if (isBytes(value)) fields.push({ name, value: view(value) });
  else if (isFile(value)) fields.push({ name, value: view(contentOf(value)), filename: value.originalname ?? value.filename ?? value.name });
  else if (isKeptElsewhere(value)) {
    throw new RegistryError(`the form parser has not kept the file \`${name}\` in memory: use its memory storage, or mount the registry before it`, { status: 400 });
  } else fields.push({ name, value: typeof value === 'object' ? stringify(value) : String(value) });
}

/** A parsed form: values may be text, numbers, bytes, files, or lists of these. */
function form(body) {
  const fields = [];
  for (const name of Object.keys(body)) addField(fields, name, body[name]);
  return { form: fields };
}

async function formData(body) {
  const fields = [];
  for (const [name, value] of body) {
    if (typeof value === 'string') fields.push({ name, value });
    else fields.push({ name, value: Buffer.from(await value.arrayBuffer()), filename: value.name });
  }
  return { form: fields };
}

function lengthOf(headers) {
  const text = find(headers, 'content-length');
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

/** Whether the client sent a body, by HTTP/1.1's rules. */
const isAnnounced = (headers) => find(headers, 'transfer-encoding') !== undefined || Boolean(lengthOf(headers));

const isJson = (type) => /[/+]json\b/i.test(type);

/** Whether bytes were read as a text that they are not: what can't be decoded becomes U+FFFD, in more bytes than there were. */
const isGarbled = (body, headers, type) =>
  isAnnounced(headers) && !isJson(type) && !/^text\//i.test(type) && body.includes('\uFFFD') && Buffer.byteLength(body) !== lengthOf(headers);

/**
 * A JSON parser that takes any value turns the body `"1.0.0"` of a dist-tag into the bare text. What is no JSON was parsed already.
 *
 * @returns {[any?, any?]}
 */
function text(body, headers, type) {
  if (isGarbled(body, headers, type)) return [undefined, lost('a body parser took it for text; mount the registry before any body parser, or let the parser keep bytes')];
  if (!isJson(type) || body.length >= LONG) return [{ text: body }];
  try {
    JSON.parse(body);
    return [{ text: body }];
  } catch {
    return [{ text: JSON.stringify(body) }];
  }
}

/**
 * A parsed body: a document or a form.
 *
 * @returns {[any?, any?]}
 */
function object(body, headers, type) {
  const keys = Object.keys(body);
  if (keys.length === 0 && !Array.isArray(body)) {
    // Body parsers leave an empty object where there was no body, and where there was one that they did not keep.
    if (isAnnounced(headers) && !(isJson(type) && (lengthOf(headers) ?? 0) <= BLANK)) return [undefined, lost()];
    if (type === '' || find(headers, 'content-length') === '0') return [];
  }
  if (/^(multipart\/form-data|application\/x-www-form-urlencoded)\b/i.test(type)) return [form(body)];
  const looksParsed = !Array.isArray(body) && keys.some((key) => isBytes(body[key]) || isFile(body[key]) || (Array.isArray(body[key]) && body[key].some(isFile)));
  return [looksParsed ? form(body) : json(body)];
}

/** Whether a request of `node:http` or `node:http2` comes without a body. */
const isBodiless = (request, headers) => (request.httpVersionMajor >= 2 ? request.stream?.endAfterHeaders === true : !isAnnounced(headers));

/**
 * What the binding takes for a body: `[body, upload]`, at most one of them. A promise only where the source can't be read at once.
 *
 * @param {any} body
 * @param {any} rawBody
 * @param {string[]} headers
 * @returns {[any?, any?] | Promise<[any?, any?]>}
 */
function nativeBody(body, rawBody, headers) {
  if (rawBody !== undefined && rawBody !== null) {
    if (typeof rawBody === 'string') return [{ text: rawBody }];
    if (isBytes(rawBody)) return [{ bytes: view(rawBody) }];
    throw new RegistryError('`rawBody` must be a Buffer', { status: 400 });
  }
  // A host that has no body to give, though the client sent one, has lost it: an empty artifact must not come of that.
  if (body === undefined || body === null) return isAnnounced(headers) ? [undefined, lost()] : [];
  if (isBytes(body)) return [{ bytes: view(body) }];
  const type = find(headers, 'content-type') ?? '';
  if (typeof body === 'string') return text(body, headers, type);
  if (typeof body !== 'object') return [{ json: stringify(body) }];
  if (isIncoming(body) && isBodiless(body, headers)) return [];
  if (isStream(body)) return [undefined, upload(body, lengthOf(headers))];
  if (typeof body.stream === 'function' && typeof body.arrayBuffer === 'function') return [undefined, upload(body.stream(), body.size)];
  if (body instanceof URLSearchParams) return [{ text: body.toString() }];
  if (typeof FormData === 'function' && body instanceof FormData) return formData(body).then((fields) => [fields]);
  if (!Array.isArray(body) && !(body instanceof Map) && typeof body[Symbol.iterator] === 'function') return [undefined, upload(body, lengthOf(headers))];
  return object(body, headers, type);
}

module.exports = { nativeBody, isBytes, view };
