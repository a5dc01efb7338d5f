// The command line: the server, users and tokens, what it prints and how it ends.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { cli } from '../../scripts/lib/paths.mjs';
import { run, startServer } from '../support/process.mjs';
import { sandbox } from '../support/sandbox.mjs';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\n$/;

describe('the command line', () => {
  let box;
  before(async () => {
    box = await sandbox('cli');
  });
  after(() => box.remove());

  const command = (args, more = {}) => run([process.execPath, cli, ...args], { cwd: box.dir, env: box.env, ...more });
  const running = [];
  afterEach(() => Promise.all(running.splice(0).map((server) => server.stop())));
  const serve = async (args = []) => {
    const server = await startServer([process.execPath, cli, 'serve', '--port', '0', ...args], { cwd: box.dir, env: box.env, ready: /^listening on (http:\/\/127\.0\.0\.1:(\d+))\n$/m });
    running.push(server);
    return server;
  };
  const whoami = (url, token) => fetch(`${url}/npm/-/whoami`, { headers: { authorization: `Bearer ${token}` } });

  it('serves, and makes and ends users and tokens meanwhile', async () => {
    const server = await serve(['--data', 'data']);
    const [, url] = server.match;
    const data = ['--data', 'data'];
    assert.equal((await fetch(`${url}/-/health`)).status, 200);
    assert.equal((await fetch(`${url}/-/ready`)).status, 200);
    assert.match(await (await fetch(`${url}/-/metrics`)).text(), /^smartregistry_/m);
    assert.ok([200, 401].includes((await fetch(`${url}/v2/`)).status));
    (await command(['user', 'add', 'alice', '--password-stdin', ...data], { input: 'secret\n' })).ok();
    const made = (await command(['token', 'create', '--user', 'alice', '--protocol', 'npm', '--expires', '30d', ...data])).ok();
    assert.match(made.stdout, UUID);
    assert.equal(made.output, made.stdout);
    const token = made.stdout.trim();
    assert.deepEqual(await (await whoami(url, token)).json(), { username: 'alice' });
    const listed = (await command(['token', 'list', '--user', 'alice', ...data])).ok().shows(/npm .*read-write/).hides(new RegExp(token));
    const [shown] = (await command(['token', 'list', '--user', 'alice', '--json', ...data])).json();
    assert.match(listed.stdout, new RegExp(shown.key));
    assert.ok(Math.abs(shown.expiresAt - Date.now() - 30 * 86_400_000) < 60_000);
    const reader = (await command(['token', 'create', '--user', 'alice', '--protocol', 'npm', '--readonly', '--scope', 'npm:package:@acme/*:read', '--scope', 'npm:package:b:read', ...data])).ok().stdout.trim();
    (await command(['token', 'list', '--user', 'alice', ...data])).ok().shows(/read-only .*npm:package:@acme\/\*:read npm:package:b:read/);
    (await command(['token', 'revoke', token, ...data])).ok();
    // The server learns within seconds of what another process has changed.
    const until = Date.now() + 15_000;
    while ((await whoami(url, token)).status !== 401) {
      assert.ok(Date.now() < until, 'the revoked token is still good');
      await sleep(100);
    }
    (await command(['token', 'revoke', '-', ...data], { input: `${reader}\n` })).ok();
    const last = (await command(['token', 'create', '--user', 'alice', '--protocol', 'oci', ...data])).ok();
    const [{ key }] = (await command(['token', 'list', '--user', 'alice', '--json', ...data])).json();
    (await command(['token', 'revoke', key, ...data])).ok();
    assert.ok(last.stdout.trim());
    assert.deepEqual((await command(['token', 'list', '--user', 'alice', '--json', ...data])).json(), []);
    assert.equal(await server.stop(), 0);
    assert.equal(server.log(), `listening on ${url}`);
  });

  it('keeps the secret that signs tokens with the data', async () => {
    const signed = async () => {
      const server = await serve(['--data', 'kept']);
      const [, url] = server.match;
      const basic = Buffer.from('bob:secret').toString('base64');
      const answer = await fetch(`${url}/v2/token?scope=repository:x:pull`, { headers: { authorization: `Basic ${basic}` } });
      const old = tokens.at(-1) && (await fetch(`${url}/v2/`, { headers: { authorization: `Bearer ${tokens.at(-1)}` } })).status;
      tokens.push((await answer.json()).token);
      await server.stop();
      return old;
    };
    const tokens = [];
    (await command(['user', 'add', 'bob', '--password-stdin', '--data', 'kept'], { input: 'secret' })).ok();
    await signed();
    assert.equal(await signed(), 200);
  });

  it('finishes a running request when it is told to stop', async () => {
    const server = await serve(['--data', 'drain']);
    const [, url] = server.match;
    (await command(['user', 'add', 'carol', '--password-stdin', '--data', 'drain'], { input: 'secret' })).ok();
    let go;
    const gate = new Promise((done) => (go = done));
    const body = new ReadableStream({
      async start(controller) {
        controller.enqueue(new Uint8Array(100_000));
        await gate;
        controller.enqueue(new Uint8Array(100_000));
        controller.close();
      },
    });
    const start = await fetch(`${url}/v2/a/blobs/uploads/`, { method: 'POST', headers: { authorization: `Basic ${Buffer.from('carol:secret').toString('base64')}` } });
    assert.equal(start.status, 202);
    const sending = fetch(new URL(start.headers.get('location'), url), { method: 'PATCH', headers: { authorization: `Basic ${Buffer.from('carol:secret').toString('base64')}`, 'content-type': 'application/octet-stream' }, body, duplex: 'half' });
    while (!/requests_in_flight.* 1\n|requests_in_flight.* 2\n/.test(await (await fetch(`${url}/-/metrics`)).text()));
    const stopped = server.stop();
    go();
    assert.equal((await sending).status, 202);
    assert.equal(await stopped, 0);
  });

  it('takes a configuration as JSON or as a module', async () => {
    const config = { storage: { type: 'local', path: join(box.dir, 'configured') }, auth: { jwtSecret: 'a secret that is long enough' }, npm: { enabled: true, basePath: '/packages' } };
    await writeFile(join(box.dir, 'registry.json'), JSON.stringify(config));
    await writeFile(join(box.dir, 'registry.config.mjs'), `export default async () => (${JSON.stringify(config)});`);
    for (const file of ['registry.json', 'registry.config.mjs']) {
      const server = await serve(['--config', file]);
      assert.equal((await fetch(`${server.match[1]}/packages/-/ping`)).status, 200);
      assert.equal((await fetch(`${server.match[1]}/v2/`)).status, 404);
      await server.stop();
    }
  });

  const failures = [
    [['--nonsense'], 2, /unknown option '--nonsense'/],
    [['floppy'], 2, /unknown command 'floppy'/],
    [['serve', '--port', '65536'], 2, /a number from 0 to 65535/i],
    [['serve', '--config', 'missing.json'], 1, /error: cannot read the configuration missing\.json: there is no such file/],
    [['serve', '--config', 'broken.json'], 1, /error: the configuration broken\.json is no JSON/],
    [['serve', '--config', 'wrong.json'], 1, /error: option `storage\.type`: unknown variant `floppy`/],
    [['serve', '--data', '/proc/nowhere', '--port', '0'], 1, /error: the storage folder can't be made/],
    [['user', 'add', 'x'], 1, /--password-stdin/],
    [['user', 'add', 'x', '--password-stdin'], 1, /there was no password on stdin/],
    [['user', 'add', '../x', '--password-stdin'], 1, /error: /, 'secret'],
    [['token', 'create', '--user', 'nobody', '--protocol', 'npm'], 1, /there is no user nobody; add one with/],
    [['token', 'create', '--user', 'nobody'], 2, /--protocol/],
    [['token', 'create', '--user', 'nobody', '--protocol', 'floppy'], 2, /floppy/],
    [['token', 'create', '--user', 'nobody', '--protocol', 'npm', '--expires', 'soon'], 1, /soon is no span of time; write 30d/],
    [['token', 'list', '--user', 'nobody'], 1, /there is no user nobody/],
    [['token', 'revoke', 'nothing'], 1, /there is no such token/],
  ];
  for (const [args, code, message, input] of failures) {
    it(`says what is wrong: ${args.join(' ')}`, async () => {
      await writeFile(join(box.dir, 'broken.json'), '{');
      await writeFile(join(box.dir, 'wrong.json'), '{"storage":{"type":"floppy"}}');
      const data = args.includes('--data') || args.includes('--config') || code === 2 ? [] : ['--data', 'failures'];
      const result = await command([...args, ...data], { input });
      assert.equal(result.code, code, result.describe());
      result.shows(message).hides(/\n {4}at /);
      assert.equal(result.stdout, '');
    });
  }

  it('explains itself', async () => {
    (await command(['--help'])).ok().shows(/serve/).shows(/token/);
    (await command(['serve', '--help'])).ok().shows(/--port <number>/).shows(/5000/).shows(/\/v2\//);
    (await command(['token', 'create', '--help'])).ok().shows(/--scope <scope>/).shows(/30d/);
  });
});
