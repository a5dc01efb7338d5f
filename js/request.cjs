// From `IRequestContext` to the arguments of the binding.
'use strict';

const { flatHeaders, flatQuery, headersText } = require('./headers.cjs');
const { nativeBody } = require('./body.cjs');
const { RegistryError } = require('./errors.cjs');

const ACTOR = ['userId', 'tokenId', 'ip', 'userAgent', 'orgId', 'sessionId'];

/** The actor's fields as text; hosts also keep numbers in them. */
function actorJson(actor) {
  const known = {};
  for (const name of ACTOR) if (actor[name] !== undefined && actor[name] !== null) known[name] = String(actor[name]);
  return JSON.stringify(known);
}

const isNone = (value) => value === undefined || value === null;

/** What rarely comes along; `undefined` when nothing does. */
function extra({ token, actor, requestId }) {
  if (isNone(token) && isNone(actor) && isNone(requestId)) return undefined;
  return { token: token ?? undefined, actor: actor ? actorJson(actor) : undefined, requestId: isNone(requestId) ? undefined : String(requestId) };
}

/**
 * @param {any} context an `IRequestContext`
 * @returns {any[] | Promise<any[]>} arguments of the binding's `handle`
 */
function nativeRequest(context) {
  if (context === null || typeof context !== 'object') throw new RegistryError('handleRequest() takes a request context', { status: 400 });
  const { method = 'GET', path } = context;
  if (typeof path !== 'string') throw new RegistryError('the request context has no `path`', { status: 400 });
  if (typeof method !== 'string') throw new RegistryError('`method` of the request context must be a string', { status: 400 });
  const headers = flatHeaders(context.headers);
  const query = flatQuery(context.query);
  const body = nativeBody(context.body, context.rawBody, headers);
  const args = (parts) => [method, path, headersText(headers), query, parts[0], parts[1], undefined, undefined, undefined, extra(context)];
  return body instanceof Promise ? body.then(args) : args(body);
}

module.exports = { nativeRequest };
