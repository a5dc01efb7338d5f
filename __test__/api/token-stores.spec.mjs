// Token stores that several processes share: what one does, the others know at once; and a store that is away opens nothing.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SmartRegistry } from 'smartregistry-native';
import { client } from '../../scripts/clients.mjs';
import { config } from '../support/facade.mjs';
import { startFleet } from '../support/fleet.mjs';
import { password } from '../support/matrix.mjs';
import { npmrc } from '../support/npm-config.mjs';
import { write, writePackage } from '../support/packages.mjs';
import { run } from '../support/process.mjs';
import { sandbox } from '../support/sandbox.mjs';
import { tokenServers } from '../support/token-servers.mjs';
import { basicAuth, must, publish } from '../support/wire.mjs';

/** No request may take longer than the time-out of a store, and what a busy machine adds. */
const PATIENCE = 8000;

const stores = {
  redis: { server: tokenServers.redis, options: ({ url }) => ({ tokenStore: 'redis', redisUrl: url }), option: 'auth.redisUrl' },
  postgres: { server: tokenServers.postgres, options: ({ url }) => ({ tokenStore: 'database', databaseUrl: url }), option: 'auth.databaseUrl' },
  sqlite: { options: ({ dir }) => ({ tokenStore: 'database', databaseUrl: `sqlite:${join(dir, 'tokens.db')}` }) },
};

const headers = (token) => ({ authorization: `Bearer ${token}` });

/** Who a process says that one is: the answer of npm's `whoami`. */
async function whoami({ npm }, token) {
  const began = performance.now();
  const response = await fetch(`${npm}-/whoami`, { headers: headers(token) });
  const text = await response.text();
  const took = performance.now() - began;
  assert.ok(took < PATIENCE, `the answer took ${took} ms`);
  return { status: response.status, text, headers: response.headers, url: response.url };
}

/** Logs in as npm does; the token. */
async function logIn({ npm }) {
  const body = JSON.stringify({ name: 'alice', password });
  const response = await fetch(`${npm}-/user/org.couchdb.user:alice`, { method: 'PUT', headers: { 'content-type': 'application/json' }, body });
  const text = await response.text();
  must({ status: response.status, text, url: response.url }, 201);
  return JSON.parse(text).token;
}

/** Asks until the answer has this status; how many milliseconds that took. */
async function until(status, ask, limit) {
  const began = performance.now();
  for (;;) {
    const answer = await ask();
    const took = performance.now() - began;
    if (answer.status === status) return took;
    assert.ok(took < limit, `${answer.url} still answers ${answer.status} after ${took} ms: ${answer.text}`);
    await sleep(20);
  }
}

for (const [kind, store] of Object.entries(stores)) {
  describe(`tokens in ${kind}`, { concurrency: 1 }, () => {
    let server, box, fleet, here, there;

    before(async () => {
      box = await sandbox(`tokens-${kind}`);
      server = await store.server?.();
      const options = store.options({ url: server?.url, dir: box.dir });
      fleet = await startFleet('local', 2, (base) => ({ ...base, auth: { ...base.auth, ...options } }));
      [here, there] = fleet.members;
    });

    after(async () => {
      await fleet?.stop();
      await server?.stop();
      await box?.remove();
    });

    it('are good in every process at once, and dead in all within a second', async () => {
      for (let round = 0; round < 3; round++) {
        const token = await logIn(here);
        // Both have it in memory then.
        for (const member of [there, here, there]) must(await whoami(member, token), 200);
        const revoked = await fetch(`${here.npm}-/user/token/${token}`, { method: 'DELETE', headers: headers(token) });
        must({ status: revoked.status, text: await revoked.text(), url: revoked.url }, 200);
        must(await whoami(here, token), 401);
        const took = await until(401, () => whoami(there, token), 1000);
        assert.ok(took < 1000, `it was good for another ${took} ms`);
      }
    });

    it('are those of the command line too', async () => {
      const token = await fleet.registry.createToken('alice', 'npm', '--readonly');
      must(await whoami(there, token), 200);
      must(await publish({ npm: there.npm, token }, 'read-only', '1.0.0'), 403);
    });

    it('let the real npm log in and publish', async () => {
      const { argv } = await client('npm');
      await write(box.home, { '.npmrc': npmrc(here.npm) });
      const npm = (args, more = {}) => run([...argv, ...args], { cwd: box.dir, env: box.env, ...more });
      const answers = [
        [/username/i, 'alice'],
        [/password/i, password],
      ];
      (await npm(['login', '--auth-type=legacy'], { answers })).ok().shows(/Logged in/);
      assert.equal((await npm(['whoami'])).ok().stdout.trim(), 'alice');
      const folder = join(box.dir, 'widget');
      await writePackage(folder, { name: 'widget', version: '1.0.0' });
      (await npm(['publish'], { cwd: folder })).ok().shows(/\+ widget@1\.0\.0/);
      // Through the other process, which knows the token too.
      assert.equal((await npm(['view', 'widget', 'version', `--registry=${there.npm}`])).ok().stdout.trim(), '1.0.0');
      (await npm(['logout'])).ok();
      (await npm(['whoami'])).refused(/E401|ENEEDAUTH|npm login/);
    });

    if (!store.server) return;

    it('open nothing while the store is away, and everything once it is back', async () => {
      const token = await logIn(here);
      for (const member of fleet.members) must(await whoami(member, token), 200);
      await server.kill();
      // What was remembered may be believed for less than a second.
      await until(503, () => whoami(there, token), PATIENCE);
      for (const member of fleet.members) {
        await until(503, () => whoami(member, token), PATIENCE);
        const npm = must(await whoami(member, token), 503);
        assert.equal(npm.headers.get('retry-after'), '1');
        assert.match(JSON.parse(npm.text).error, /token store does not answer/);
        must(await publish({ npm: member.npm, token }, 'while-away', '1.0.0'), 503);
        const oci = await fetch(`${member.url}/v2/`, { headers: { authorization: basicAuth('alice', password) } });
        assert.equal(oci.status, 503);
        assert.equal(oci.headers.get('retry-after'), '1');
        assert.match((await oci.json()).errors[0].message, /token store does not answer/);
      }
      await server.start();
      for (const member of fleet.members) await until(200, () => whoami(member, token), PATIENCE);
      must(await publish({ npm: there.npm, token }, 'while-back', '1.0.0'), 200, 201);
      const absent = await fetch(`${here.npm}while-away`, { headers: headers(token) });
      assert.equal(absent.status, 404);
      const printed = fleet.members.map(({ log }) => log()).join('\n');
      for (const secret of [token, server.secret]) assert.ok(!printed.includes(secret), `the log has ${secret}`);
      assert.match(printed, /token store does not answer/);
    });

    it('say at the start that the store is away, and start once it is there', async (t) => {
      const auth = { ...config().auth, ...store.options({ url: server.url }) };
      const registry = new SmartRegistry(config({ auth }));
      t.after(() => registry.destroy());
      await server.kill();
      await assert.rejects(registry.init(), (error) => {
        assert.equal(error.status, 503, error.stack);
        assert.ok(error.message.includes(`option \`${store.option}\``), error.message);
        assert.ok(error.message.includes('registry:***@127.0.0.1'), error.message);
        assert.ok(!error.message.includes(server.secret) && !error.message.includes(encodeURIComponent(server.secret)));
        return true;
      });
      await server.start();
      await registry.init();
      assert.ok(await registry.getAuthManager().createNpmToken('alice', false));
    });
  });
}
