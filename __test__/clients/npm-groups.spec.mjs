// An auth provider in JavaScript that knows groups, as a directory server does, and npm's organisations and teams beside it: the provider decides what
// anybody may do at all, the teams take from that, and npm's commands list and change them.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { SmartRegistry } from 'smartregistry-native';
import { client } from '../../scripts/clients.mjs';
import { npmrc } from '../support/npm-config.mjs';
import { write, writePackage } from '../support/packages.mjs';
import { run } from '../support/process.mjs';
import { sandbox } from '../support/sandbox.mjs';

const { argv } = await client('npm');

/** Staff may do everything with @acme's packages, guests read. */
class Directory {
  groups = { staff: ['olga', 'bob', 'carol'], guests: ['dave'] };
  #tokens = new Map();

  authenticate({ username, password }) {
    return password === `password-of-${username}` ? username : null;
  }

  validateToken(token) {
    const userId = this.#tokens.get(token) ?? token.match(/^token-of-(\w+)$/)?.[1];
    return userId ? { userId, scopes: [] } : null;
  }

  createToken(userId) {
    const token = randomUUID();
    this.#tokens.set(token, userId);
    return token;
  }

  revokeToken(token) {
    this.#tokens.delete(token);
  }

  authorize(token, resource, action) {
    const isIn = (group) => this.groups[group].includes(token?.userId);
    if (/^npm:(package:@acme\/|org:acme)/.test(resource)) return isIn('staff') || (isIn('guests') && action === 'read');
    return isIn('staff');
  }
}

describe('organisations and teams beside an auth provider with groups', { concurrency: 1 }, () => {
  const directory = new Directory();
  let box;
  let registry;
  let server;
  let url;

  before(async () => {
    box = await sandbox('groups');
    registry = new SmartRegistry({
      storage: { type: 'local', path: join(box.dir, 'data') },
      auth: { jwtSecret: 'a secret of the tests, long enough to sign' },
      npm: { enabled: true, basePath: '/npm' },
      authProvider: directory,
    });
    await registry.init();
    server = await registry.listen({ port: 0 });
    url = `http://127.0.0.1:${server.port}/npm/`;
    for (const who of ['olga', 'bob', 'carol', 'dave']) await write(join(box.home, who), { '.npmrc': npmrc(url, `token-of-${who}`) });
  });
  after(async () => {
    await server?.close();
    await registry?.destroy();
    await box.remove();
  });

  const npm = (as, args, cwd = box.dir) => run([...argv, ...args], { cwd, env: { ...box.env, HOME: join(box.home, as), XDG_CONFIG_HOME: join(box.home, as, '.config') } });
  const publish = async (as, name, version) => {
    const { folder } = await writePackage(await box.folder(`${name}-${version}`), { name, version });
    return npm(as, ['publish', '--access=public'], folder);
  };

  it('an organisation and a team are made by whom the provider lets', async () => {
    (await npm('dave', ['org', 'set', 'acme', 'dave', 'owner'])).refused(/E403/);
    (await npm('olga', ['org', 'set', 'acme', 'olga', 'owner'])).ok().shows(/Added olga as owner to acme/);
    for (const who of ['bob', 'dave']) (await npm('olga', ['org', 'set', 'acme', who])).ok().shows(new RegExp(`Added ${who} as developer to acme`));
    (await npm('olga', ['team', 'create', 'acme:core'])).ok().shows(/\+@acme:core/);
    for (const who of ['bob', 'dave']) (await npm('olga', ['team', 'add', 'acme:core', who])).ok().shows(new RegExp(`${who} added to @acme:core`));
    (await npm('bob', ['team', 'ls', 'acme'])).ok().shows(/@acme:core/).shows(/@acme:developers/);
    (await npm('bob', ['team', 'ls', 'acme:core', '--json'])).ok().shows(/bob/).shows(/dave/);
    (await npm('carol', ['team', 'ls', 'acme'])).refused(/E404/);
  });

  it('who is in the group and in the team publishes, who lacks either does not', async () => {
    (await publish('olga', '@acme/gadget', '1.0.0')).ok();
    (await npm('olga', ['access', 'grant', 'read-write', 'acme:core', '@acme/gadget'])).ok();
    assert.deepEqual((await npm('bob', ['access', 'list', 'packages', 'acme:core', '--json'])).ok().json(), { '@acme/gadget': 'read-write' });
    (await npm('olga', ['access', 'list', 'collaborators', '@acme/gadget'])).ok().shows(/bob: read-write/);
    (await publish('bob', '@acme/gadget', '1.1.0')).ok();
    (await publish('carol', '@acme/gadget', '1.2.0')).refused(/E403[^]*organisation that does not let you write/);
    (await publish('dave', '@acme/gadget', '1.2.0')).refused(/E403[^]*dave may not write npm:package:@acme\/gadget/);
    (await npm('dave', ['access', 'grant', 'read-write', 'acme:core', '@acme/gadget'])).refused(/E403/);
  });

  it('who leaves the group or the team stops publishing at once', async () => {
    (await npm('olga', ['access', 'revoke', 'acme:core', '@acme/gadget'])).ok();
    (await npm('olga', ['access', 'grant', 'read-only', 'acme:core', '@acme/gadget'])).ok();
    (await publish('bob', '@acme/gadget', '1.3.0')).refused(/E403[^]*organisation that does not let you write/);
    (await npm('olga', ['access', 'grant', 'read-write', 'acme:core', '@acme/gadget'])).ok();
    directory.groups.staff = directory.groups.staff.filter((who) => who !== 'bob');
    // Who may not even read is not told that it is there.
    (await publish('bob', '@acme/gadget', '1.3.0')).refused(/E404/);
    (await npm('bob', ['view', '@acme/gadget', 'version'])).refused(/E404/);
    directory.groups.staff.push('bob');
    (await publish('bob', '@acme/gadget', '1.3.0')).ok();
  });
});
