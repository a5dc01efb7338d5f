// `config.logger`, `logLevel` and request ids: what a registry says goes to its own application, with the id that the client has been told.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { SmartRegistry } from 'smartregistry-native';
import { config, login, open, pushBlob, sha256 } from '../support/facade.mjs';
import { run } from '../support/process.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** A logger that keeps its lines. */
function collector() {
  const lines = [];
  const at = (level) => (message, about) => lines.push({ level, message, ...about });
  return { lines, error: at('error'), warn: at('warn'), info: at('info'), debug: at('debug'), trace: at('trace') };
}

/** Lines come by the event loop, soon after. */
async function line(logger, wanted) {
  for (let tries = 0; tries < 100; tries++) {
    const found = logger.lines.find(wanted);
    if (found) return found;
    await sleep(10);
  }
  assert.fail(`no such line: ${JSON.stringify(logger.lines)}`);
}

const ping = (registry, more = {}) => registry.handleRequest({ method: 'GET', path: '/npm/-/ping', headers: {}, query: {}, ...more });

describe('a logger', () => {
  it('hears of failures, with the id of the request', async (t) => {
    const logger = collector();
    const beforePut = () => {
      throw new Error('the quota service is down');
    };
    const registry = await open(t, { logger, storageHooks: { beforePut } });
    const { oci } = await login(registry);
    const answer = await pushBlob(registry, oci, sha256(Buffer.from('x')), Buffer.from('x'));
    assert.equal(answer.status, 403);
    const told = await line(logger, ({ level, message }) => level === 'error' && /beforePut/.test(message));
    assert.match(`${told.message} ${told.causes}`, /the quota service is down/);
    assert.equal(told.requestId, answer.headers['X-Request-ID']);
    assert.equal(told.protocol, 'oci');
    assert.ok(told.time instanceof Date && Math.abs(told.time - Date.now()) < 60_000);
    assert.ok(logger.lines.every(({ level }) => level === 'error' || level === 'warn'));
  });

  it('hears of each request if it wants to', async (t) => {
    const logger = collector();
    const registry = await open(t, { logger, logLevel: 'info' });
    const answer = await ping(registry, { requestId: 'order-66.a_b' });
    assert.equal(answer.headers['X-Request-ID'], 'order-66.a_b');
    const told = await line(logger, ({ target, message }) => target === 'access' && message === 'request');
    assert.deepEqual([told.level, told.id, told.method, told.path, told.status, told.protocol], ['info', 'order-66.a_b', 'GET', '/npm/-/ping', 200, 'npm']);
  });

  it('takes no id that could be something else in a log', async (t) => {
    const registry = await open(t);
    for (const requestId of ['', 'a b', 'a\nb', 'x'.repeat(65), '{}']) {
      assert.match((await ping(registry, { requestId })).headers['X-Request-ID'], /^[0-9a-f]{16}$/);
    }
  });

  it('of one registry hears nothing of another', async (t) => {
    const [one, two] = [collector(), collector()];
    const [first, second] = [await open(t, { logger: one, logLevel: 'info' }), await open(t, { logger: two, logLevel: 'info' })];
    await ping(first, { requestId: 'of-one' });
    await ping(second, { requestId: 'of-two' });
    await line(one, ({ id }) => id === 'of-one');
    await line(two, ({ id }) => id === 'of-two');
    assert.ok(!one.lines.some(({ id }) => id === 'of-two') && !two.lines.some(({ id }) => id === 'of-one'));
  });

  it('hears of what the listener answers, by the id that a trusted proxy gave', async (t) => {
    const logger = collector();
    const registry = await open(t, { logger, logLevel: 'info', trustProxy: true });
    const server = await registry.listen({ port: 0 });
    const answer = await fetch(`${server.url}/npm/-/ping`, { headers: { 'x-request-id': 'from-the-proxy' } });
    assert.equal(answer.headers.get('x-request-id'), 'from-the-proxy');
    await line(logger, ({ id }) => id === 'from-the-proxy');
    await server.close();
  });

  it('agrees with the framework around nodeHandler()', async (t) => {
    const logger = collector();
    const registry = await open(t, { logger, logLevel: 'info' });
    const handler = registry.nodeHandler();
    const server = http.createServer((req, res) => handler(Object.assign(req, { id: 'req-7' }), res));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => server.close());
    const answer = await fetch(`http://127.0.0.1:${server.address().port}/npm/-/ping`);
    assert.equal(answer.headers.get('x-request-id'), 'req-7');
    await line(logger, ({ id }) => id === 'req-7');
  });

  it('may be console, miss methods, throw, or reject, and nothing changes', async (t) => {
    const warnings = [];
    const note = (warning) => warnings.push(warning);
    process.on('warning', note);
    t.after(() => process.off('warning', note));
    const loggers = [
      { error() {} },
      { info() { throw new Error('a full disk'); } },
      { info: () => Promise.reject(new Error('a full disk')) },
    ];
    for (const logger of loggers) {
      const registry = await open(t, { logger, logLevel: 'info' });
      for (let n = 0; n < 3; n++) assert.equal((await ping(registry)).status, 200);
      await sleep(50);
    }
    assert.deepEqual(warnings.map(({ code }) => code), ['SMARTREGISTRY_LOGGER', 'SMARTREGISTRY_LOGGER']);
  });

  it('is refused where it can not be one', () => {
    for (const [given, told] of [[{ logger: {} }, /option `logger` has none of the methods/], [{ logger: { warn: 'x' } }, /option `logger\.warn` must be a function/], [{ logLevel: 'loud' }, /logLevel/]]) {
      assert.throws(() => new SmartRegistry(config(given)), { code: 'INVALID_CONFIG', message: told });
    }
  });

  it('does not keep a process alive, and is not missed by a busy one', async () => {
    const program = `
      import { SmartRegistry } from 'smartregistry-native';
      let lines = 0, dropped = 0;
      const logger = { info: (message, about) => (lines += about.target === 'access' ? 1 : 0), warn: (message) => (dropped += Number(/^(\\d+) lines of the log were dropped/.exec(message)?.[1] ?? 0)) };
      const registry = new SmartRegistry({ storage: { type: 'memory' }, auth: { jwtSecret: 'a secret that is long enough' }, npm: { enabled: true }, logger, logLevel: 'info' });
      await registry.init();
      const ask = () => registry.handleRequest({ method: 'GET', path: '/npm/-/ping', headers: {}, query: {} });
      await Promise.all(Array.from({ length: 3000 }, ask));
      await new Promise((done) => setTimeout(done, 100));
      await ask();
      await new Promise((done) => setTimeout(done, 100));
      console.log(lines + dropped);
    `;
    const done = await run([process.execPath, '--input-type=module', '--eval', program], { cwd: root, env: { PATH: process.env.PATH }, seconds: 30 });
    assert.equal(done.ok().stdout.trim(), '3001');
  });

  it('without one, logLevel sets what goes to stderr', async () => {
    const program = `
      import { SmartRegistry } from 'smartregistry-native';
      const registry = new SmartRegistry({ storage: { type: 'memory' }, auth: { jwtSecret: 'a secret that is long enough' }, npm: { enabled: true }, logLevel: 'info' });
      await registry.init();
      await registry.handleRequest({ method: 'GET', path: '/npm/-/ping', headers: {}, query: {}, requestId: 'to-stderr' });
    `;
    (await run([process.execPath, '--input-type=module', '--eval', program], { cwd: root, env: { PATH: process.env.PATH } })).ok().shows(/request.*to-stderr/);
  });
});
