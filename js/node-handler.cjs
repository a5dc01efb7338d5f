// `(req, res, next?)` for node:http, Express, Connect and middie: the raw request in, the answer out, no Web stream between.
'use strict';

const { find, headersList } = require('./headers.cjs');
const { nativeBody } = require('./body.cjs');
const { places } = require('./mount.cjs');
const { repeats } = require('./repeats.cjs');
const { own, RegistryError } = require('./errors.cjs');

/** How long a client that sends on after its answer is listened to, and how many bytes of it, before the connection is cut. */
const LINGER_MS = 10_000;
const LINGER_BYTES = 64 << 20;

const NOTHING = [];

/** Whether somebody before us has read the request. What is no stream at all was never there to be read. */
const isRead = (req) => req.readableEnded !== false || req.readableDidRead === true;

/** The fields of a form, with the files that multer and its relatives keep beside `req.body`: one, a list, or lists by field. */
function formOf({ body, file, files = file && [file] }) {
  if (files === undefined || files === null) return body;
  const form = { ...body };
  const named = Array.isArray(files) ? files.map((one) => [one.fieldname, one]) : Object.entries(files);
  for (const [name, value] of named) form[name] = name in form ? [form[name], value].flat() : value;
  return form;
}

/** The body and its raw bytes: what a parser before us made of them, else the request itself. */
function bodyOf(req) {
  const { body, rawBody } = req;
  // A parser that left the request unread has only put its default there.
  if (!isRead(req)) return { body: req, rawBody };
  return { body: body === req ? undefined : formOf(req), rawBody };
}

/** As the connection has them. HTTP/2 names the host beside the headers. */
function headersOf(req) {
  const { rawHeaders } = req;
  return req.httpVersionMajor >= 2 && req.authority && find(rawHeaders, 'host') === undefined ? ['host', req.authority, ...rawHeaders] : rawHeaders;
}

/** What the application's framework calls this request (`req.id`), for its log and ours to agree. */
const extraOf = ({ id }) => (typeof id === 'string' || typeof id === 'number' ? { requestId: String(id) } : undefined);

/** Writes a large body with the socket's own backpressure; `end` ends the answer. */
async function writeBody(res, body, end) {
  for (;;) {
    let piece = body.tryNext();
    if (piece === false) piece = await body.next();
    if (piece === null) break;
    if (res.destroyed) return;
    if (!res.write(piece)) await drained(res);
  }
  end();
}

/** Resolves when there is room again, or nobody listens any more. */
function drained(res) {
  return new Promise((done) => {
    const settle = () => {
      res.off('drain', settle).off('close', settle);
      done(undefined);
    };
    res.on('drain', settle).on('close', settle);
  });
}

/** Whether the answer comes while the client is still sending. */
const isEarly = (req) =>
  !req.complete && (find(req.rawHeaders, 'transfer-encoding') !== undefined || Number(find(req.rawHeaders, 'content-length') ?? 0) > 0);

/**
 * Ends an answer that came early. Node closes the connection with it, and most clients write their body before they look: they would find a
 * connection that is reset, and no answer. So the answer goes out, what they still send is read for them within bounds, and then it ends.
 */
function linger(req, res) {
  let left = LINGER_BYTES;
  const cut = () => {
    settle();
    req.destroy();
  };
  const count = (chunk) => {
    left -= chunk.length;
    if (left < 0) cut();
  };
  const settle = () => {
    clearTimeout(late);
    req.off('data', count).off('end', settle).off('close', settle);
    res.end();
  };
  const late = setTimeout(cut, LINGER_MS);
  late.unref?.();
  req.on('data', count).on('end', settle).on('close', settle).resume();
}

function answer(req, res, { status, statusText, list, body }) {
  const lingers = req.httpVersionMajor === 1 && isEarly(req) && !req.destroyed;
  if (lingers) list.push('Connection', 'close');
  // HTTP/2 has a frame for it.
  else if (!req.complete) req.resume();
  const end = () => (lingers && !req.complete && !req.destroyed ? linger(req, res) : res.end());
  if (statusText !== undefined && req.httpVersionMajor === 1) res.writeHead(status, statusText, list);
  else res.writeHead(status, list);
  if (!body || Buffer.isBuffer(body)) {
    if (!lingers) return void res.end(body || undefined);
    if (body) res.write(body);
    else res.flushHeaders();
    end();
  } else {
    res.once('close', () => body.cancel());
    // A body that breaks midway must not look complete: the connection ends without the rest.
    writeBody(res, body, end).catch((error) => res.destroy(error));
  }
}

/**
 * @param {any} native the binding's registry
 * @param {() => void} assertReady throws before `init()`
 */
function nodeHandler(native, assertReady) {
  const placeOf = places(native);
  const often = repeats(native);
  return function smartregistry(req, res, next) {
    const fail = (error) => {
      if (typeof next === 'function') next(error);
      else if (res.headersSent) res.destroy(error);
      else {
        // Ours say what is wrong in words for everybody; others' may hold anything.
        const { status = 500, code = 'INTERNAL', message = 'the request failed' } = error instanceof RegistryError ? error : {};
        res.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify({ error: code, message }));
      }
    };
    try {
      assertReady();
      const { url, prefix } = placeOf(req);
      const settle = ({ status, statusText, headers, body }) => (res.destroyed ? body?.cancel?.() : answer(req, res, { status, statusText, list: headersList(headers), body }));
      // What needs no waiting is answered in the same turn.
      const settleSoon = (made) => made.then(settle, (error) => fail(own(error, smartregistry))).catch(fail);
      const kept = often.find(req, url, prefix);
      if (kept) {
        const made = native.handleAgain(kept.repeat);
        if (typeof made === 'string') res.destroyed || answer(req, res, kept.answer(made));
        else if (made instanceof Promise) settleSoon(made);
        else {
          often.keep(kept, url, made);
          settle(made);
        }
        return;
      }
      if (typeof next === 'function' && !native.matches(url)) {
        next();
        return;
      }
      often.note(req, url, prefix);
      const headers = headersOf(req);
      const { body, rawBody } = bodyOf(req);
      const parts = nativeBody(body, rawBody, headers);
      const handle = (made) => {
        const { socket } = req;
        return native.handle(req.method, url, headers.join('\n'), NOTHING, made[0], made[1], socket?.remoteAddress, socket?.encrypted === true, prefix || undefined, extraOf(req));
      };
      const made = parts instanceof Promise ? parts.then(handle) : handle(parts);
      if (made instanceof Promise) settleSoon(made);
      else settle(made);
    } catch (error) {
      fail(error);
    }
  };
}

module.exports = { nodeHandler };
