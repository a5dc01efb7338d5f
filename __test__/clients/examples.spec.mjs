// The applications of `examples/`, each started as a copy of its folder and driven by npm and skopeo; and body parsers before the registry with the same clients.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { client } from '../../scripts/clients.mjs';
import { root } from '../../scripts/lib/paths.mjs';
import { startExample } from '../support/example.mjs';
import { password } from '../support/matrix.mjs';
import { npmrc } from '../support/npm-config.mjs';
import { assertSameImage, digestOf } from '../support/oci.mjs';
import { images } from '../support/oci-clients.mjs';
import { assertInstalled, assertIntegrity, write, writePackage, writeProject } from '../support/packages.mjs';
import { run } from '../support/process.mjs';
import { startRegistry } from '../support/registry.mjs';
import { startS3 } from '../support/s3.mjs';
import { sandbox } from '../support/sandbox.mjs';
import { basicAuth } from '../support/wire.mjs';

const apps = ['express', 'fastify', 'hono', 'node-http'];

/** The scripts of each application, and the storage under it: one way over a folder, the other over a bucket. */
const ways = { start: local, 'start:handle-request': bucket };

const user = { REGISTRY_USER: 'alice', REGISTRY_PASSWORD: password };

async function local(box) {
  return { settings: { DATA: join(box.dir, 'data') }, end: async () => {} };
}

async function bucket() {
  const s3 = await startS3('moto');
  const { endpoint, port, region, bucketName, accessKey, accessSecret } = s3.storage();
  const settings = { S3_ENDPOINT: `http://${endpoint}:${port}`, S3_REGION: region, S3_BUCKET: bucketName, S3_ACCESS_KEY: accessKey, S3_SECRET_KEY: accessSecret };
  return { settings, end: () => s3.stop() };
}

async function example(app, script, storageOf, box) {
  const storage = await storageOf(box);
  const server = await startExample(app, script, box, { ...storage.settings, ...user });
  const [, url, port] = server.match;
  const stop = async () => {
    const code = await server.stop();
    await storage.end();
    return code;
  };
  return { url, host: `127.0.0.1:${port}`, npm: `${url}/npm/`, log: server.log, stop };
}

const programs = Object.fromEntries(await Promise.all(['npm', 'skopeo'].map(async (name) => [name, (await client(name)).argv])));

const npm = (site, args, { cwd = site.box.dir, ...more } = {}) => run([...programs.npm, ...args], { cwd, env: site.env, ...more });
const skopeo = (site, args, more) => run([...programs.skopeo, '--insecure-policy', ...args], { cwd: site.box.dir, env: site.env, ...more });

/** What npm and skopeo do with a registry, whoever serves it. */
function clients(step) {
  step('npm logs in', async (site) => {
    const answers = [
      [/username/i, 'alice'],
      [/password/i, password],
    ];
    (await npm(site, ['login'], { answers })).ok().shows(/Logged in on/);
    assert.equal((await npm(site, ['whoami'])).ok().stdout.trim(), 'alice');
  });

  step('npm publishes, tags and shows', async (site) => {
    const publish = async (manifest, ...args) => {
      const made = await writePackage(await site.box.folder(manifest.name), manifest);
      (await npm(site, ['publish', ...args], { cwd: made.folder })).ok().shows(new RegExp(`\\+ ${manifest.name}@`));
      await assertIntegrity(site.registry.npm, manifest.name, manifest.version);
      return made;
    };
    // Beyond the 100 kB that body parsers take unless they are told otherwise.
    site.widget = await publish({ name: 'widget', version: '1.0.0' });
    site.gadget = await publish({ name: '@acme/gadget', version: '0.1.0', dependencies: { widget: '^1.0.0' } }, '--access', 'public');
    (await npm(site, ['dist-tag', 'add', 'widget@1.0.0', 'stable'])).ok();
    const shown = (await npm(site, ['view', 'widget', '--json'])).ok().json();
    assert.deepEqual([shown.version, shown['dist-tags']], ['1.0.0', { latest: '1.0.0', stable: '1.0.0' }]);
  });

  step('npm installs', async (site) => {
    const project = await site.box.folder('project');
    await writeProject(project, { '@acme/gadget': '^0.1.0' });
    (await npm(site, ['install'], { cwd: project })).ok().shows(/added 2 packages/);
    await assertInstalled(project, site.widget);
    await assertInstalled(project, site.gadget);
  });

  const remote = (site, name) => `docker://${site.registry.host}/${name}`;

  step('skopeo logs in', async (site) => {
    const login = ['login', '--tls-verify=false', '--username', 'alice', '--password-stdin', site.registry.host];
    (await skopeo(site, login, { input: 'guessed' })).refused(/invalid username\/password/);
    (await skopeo(site, login, { input: password })).ok().shows(/Login Succeeded/);
  });

  step('skopeo copies images in', async (site) => {
    for (const name of ['small', 'big', 'multi']) {
      (await skopeo(site, ['copy', '--all', '--preserve-digests', '--dest-tls-verify=false', `oci:${site.layout(name)}:${name}`, remote(site, `team/${name}:v1`)])).ok();
    }
  });

  step('skopeo inspects', async (site) => {
    const raw = (await skopeo(site, ['inspect', '--raw', '--tls-verify=false', remote(site, 'team/small:v1')])).ok();
    assert.equal(digestOf(Buffer.from(raw.stdout)), site.small.descriptor.digest);
    (await skopeo(site, ['inspect', '--tls-verify=false', remote(site, 'team/none:v1')])).refused(/unknown/i);
  });

  step('skopeo copies images out', async (site) => {
    for (const name of ['small', 'big', 'multi']) {
      const folder = await site.box.folder(`pulled-${name}`);
      (await skopeo(site, ['copy', '--all', '--preserve-digests', '--src-tls-verify=false', remote(site, `team/${name}:v1`), `oci:${folder}:pulled`])).ok();
      await assertSameImage(folder, site[name]);
    }
  });
}

/** The steps against one server; `open(box)` starts it. */
function site(name, open, scenario) {
  describe(name, { concurrency: 1 }, () => {
    const made = {};
    before(
      async () => {
        made.box = await sandbox(name);
        made.registry = await open(made.box);
        made.env = { ...made.box.env, REGISTRY_AUTH_FILE: join(made.box.home, 'auth.json') };
        await write(made.box.home, { '.npmrc': npmrc(made.registry.npm) });
        await images(made);
      },
      { timeout: 120_000 },
    );
    after(async () => {
      await made.registry?.stop();
      await made.box?.remove();
    });
    scenario((title, work) => {
      it(title, { timeout: 180_000 }, async (t) => {
        try {
          await work(made);
        } catch (error) {
          t.diagnostic(`the application printed:\n${made.registry.log().slice(-2000)}`);
          throw error;
        }
      });
    });
  });
}

describe('the applications of examples/', { concurrency: 2 }, () => {
  for (const app of apps) {
    for (const [script, storageOf] of Object.entries(ways)) {
      site(`${app}, npm run ${script}`, (box) => example(app, script, storageOf, box), (step) => {
        clients(step);

        step('the application has routes of its own', async ({ registry }) => {
          const answer = await fetch(registry.url);
          assert.deepEqual([answer.status, await answer.text()], [200, 'an application with a registry in it\n']);
        });

        step('it ends by itself when it is told to', async ({ registry }) => {
          assert.equal(await registry.stop(), 0);
          registry.stop = async () => {};
        });
      });
    }
  }

  it('share what is the same in all of them', async () => {
    const read = (app, file) => readFile(join(root, 'examples', app, file), 'utf8');
    for (const app of apps) assert.equal(await read(app, 'registry.mjs'), await read('express', 'registry.mjs'));
    for (const app of ['hono', 'node-http']) assert.equal(await read(app, 'start.mjs'), await read('express', 'start.mjs'));
  });
});

describe('body parsers of Express', { concurrency: 2 }, () => {
  // JSON, form and raw parsers, each with a limit that is large enough; the code of the README, and `nodeHandler()`.
  for (const mode of ['express-parsed', 'express-handler-parsed']) {
    const open = async () => {
      const registry = await startRegistry(mode, 'local');
      await registry.addUser('alice', password);
      return registry;
    };
    site(mode, open, (step) => {
      clients(step);

      step('skopeo posts an identity token to the token endpoint as a form', async (made) => {
        const { host, url } = made.registry;
        const headers = { authorization: basicAuth('alice', password) };
        const { refresh_token: identitytoken } = await (await fetch(`${url}/v2/token?service=smartregistry-test&offline_token=true`, { headers })).json();
        await write(made.box.home, { 'identity.json': JSON.stringify({ auths: { [host]: { auth: btoa('alice:'), identitytoken } } }) });
        const authfile = ['--authfile', join(made.box.home, 'identity.json')];
        (await skopeo(made, ['copy', ...authfile, '--preserve-digests', '--dest-tls-verify=false', `oci:${made.layout('small')}:small`, `docker://${host}/team/formed:v1`])).ok();
        assert.match(made.registry.log(), /parsed a form: \/v2\/token .*refresh_token/);
      });
    });
  }
});
