// `user` and `token`: on the same data as the server, also while it runs.
'use strict';

const { text } = require('node:stream/consumers');
const { createRegistry } = require('../config.cjs');
const { loadConfig, UserError, PROTOCOLS } = require('./config.cjs');
const { columns } = require('./units.cjs');

const DAY = 86_400_000;
const UNITS = { s: 1000, m: 60_000, h: 3_600_000, d: DAY, w: 7 * DAY, y: 365 * DAY };

/** Runs `work` with the users and tokens of the data that `options` name. */
async function withAuth(options, work) {
  const config = await loadConfig(options);
  // Only users and tokens are wanted: no protocol, and none of what protocols need.
  for (const name of PROTOCOLS) delete config[name];
  const registry = createRegistry(config, {}, withAuth);
  try {
    await registry.init();
    return await work(registry.auth());
  } finally {
    registry.destroy();
  }
}

async function addUser(name, options) {
  if (!options.passwordStdin) throw new UserError('the password is read from stdin only: echo -n PASSWORD | smartregistry-native user add NAME --password-stdin');
  const password = (await text(process.stdin)).replace(/\r?\n$/, '');
  if (password === '') throw new UserError('there was no password on stdin');
  await withAuth(options, (auth) => auth.addUser(name, password));
}

/** The moment after a span such as `30d`, in milliseconds. */
function expiry(span) {
  const [, count, unit] = /^(\d+)([smhdwy])$/.exec(span) ?? [];
  if (!unit || Number(count) === 0) throw new UserError(`--expires ${span} is no span of time; write 30d, 12h, 90m, 2w or 1y`);
  return Date.now() + Number(count) * UNITS[unit];
}

async function createToken(options) {
  const { user, protocol, readonly, scope: scopes, name } = options;
  if (!PROTOCOLS.includes(protocol)) throw new UserError(`there is no protocol ${protocol}; there are ${PROTOCOLS.join(', ')}`);
  const expiresAt = options.expires === undefined ? undefined : expiry(options.expires);
  const token = await withAuth(options, async (auth) => {
    if ((await auth.hasUser(user)) === false) throw new UserError(`there is no user ${user}; add one with: smartregistry-native user add ${user} --password-stdin`);
    return auth.createToken(user, protocol, { readonly: readonly || undefined, scopes, expiresAt, name });
  });
  process.stdout.write(`${token}\n`);
}

const date = (millis) => (millis === undefined || millis === null ? 'never' : new Date(millis).toISOString().slice(0, 10));

async function listTokens(options) {
  const tokens = await withAuth(options, async (auth) => {
    if ((await auth.hasUser(options.user)) === false) throw new UserError(`there is no user ${options.user}`);
    return auth.listTokens(options.user);
  });
  if (options.json) {
    process.stdout.write(`${JSON.stringify(tokens, undefined, 2)}\n`);
    return;
  }
  const rows = [['KEY', 'TOKEN', 'PROTOCOL', 'ACCESS', 'CREATED', 'EXPIRES', 'LAST USED', 'SCOPES']];
  for (const token of tokens) {
    const { key, hint, protocol, readonly, created, expiresAt, lastUsed, scopes } = token;
    rows.push([key, hint && `${hint}…`, protocol, readonly ? 'read-only' : 'read-write', date(created), date(expiresAt), date(lastUsed), scopes.join(' ')]);
  }
  process.stdout.write(`${columns(rows)}\n`);
}

async function revokeToken(given, options) {
  const token = given === '-' ? (await text(process.stdin)).trim() : given;
  await withAuth(options, async (auth) => {
    if (await auth.validateToken(token)) {
      await auth.revokeToken(token);
      return;
    }
    const users = options.user === undefined ? await auth.listUsers() : [options.user];
    for (const user of users) if (await auth.revokeKey(user, token)) return;
    throw new UserError('there is no such token; `token list --user NAME` shows the keys');
  });
}

module.exports = { addUser, createToken, listTokens, revokeToken };
