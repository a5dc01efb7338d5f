// From `IRequestContext` to the arguments of the binding.
'use strict';

const { flatHeaders, flatQuery, headersText } = require('./headers.cjs');
const { nativeBody } = require('./body.cjs');
const { RegistryError } = require('./errors.cjs');

/** The actor as hooks get it back. */
function actorJson(actor) {
  if (typeof actor !== 'object' || Array.isArray(actor)) throw new RegistryError('`actor` of the request context must be an object', { status: 400 });
  try {
    return JSON.stringify(actor);
  } catch (error) {
    throw new RegistryError(`\`actor\` of the request context is handed on as JSON and can't be written so: ${error.message}`, { status: 400, cause: error });
  }
}

const isNone = (value) => value === undefined || value === null;

/** What rarely comes along; `undefined` when nothing does. */
function extra({ token, actor, requestId }) {
  if (isNone(token) && isNone(actor) && isNone(requestId)) return undefined;
  if (!isNone(token) && typeof token !== 'string') throw new RegistryError('`token` of the request context must be a string', { status: 400 });
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
