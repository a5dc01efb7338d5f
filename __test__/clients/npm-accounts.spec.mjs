// npm: tokens, profiles, the browser, second factors, organisations, trusted publishing.
import assert from 'node:assert/strict';
import { after } from 'node:test';
import { client } from '../../scripts/clients.mjs';
import { asToken, call, enrol, person } from '../support/accounts.mjs';
import { Authenticator, servedIssuer } from '../support/authenticator.mjs';
import { few, matrix, password } from '../support/matrix.mjs';
import { npmrc, people } from '../support/npm-config.mjs';
import { writePackage } from '../support/packages.mjs';
import { run } from '../support/process.mjs';

const { argv } = await client('npm');
const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}/;
const builds = await servedIssuer();
after(() => builds.close());

const npm = (site, args, { cwd = site.box.dir, as = 'owner', env = {}, ...more } = {}) => run([...argv, ...args], { cwd, env: { ...site.as(as), ...env }, ...more });

const config = (usual) => ({
  ...usual,
  auth: { ...usual.auth, trustedIssuers: [{ issuer: builds.url, type: 'github', audience: 'npm:127.0.0.1', allowPrivateAddresses: true }] },
  npm: { ...usual.npm, features: { webLogin: true } },
});

async function setUp(site) {
  await people(site, (url, token) => ({ '.npmrc': npmrc(url, token) }));
  for (const name of ['bob', 'carol', 'frank']) site[name] = await person(site, name);
}

matrix('npm accounts', { storages: few, protocol: 'npm', config, setUp }, (step) => {
  const folder = async (site, name, version) => (await writePackage(await site.box.folder(`${name}-${version}`), { name, version })).folder;
  const publish = async (site, name, version, { args = [], ...more } = {}) => npm(site, ['publish', ...args], { cwd: await folder(site, name, version), ...more });

  // With --json npm puts asterisks in the token's place.
  const create = (site, flags, more) => npm(site, ['token', 'create', `--password=${password}`, ...flags], more);
  const tokenOf = (made) => made.ok().shows(/Created token/).output.match(UUID)[0];

  step('makes tokens for packages, networks and reading, and holds them to it', async (site) => {
    (await npm(site, ['token', 'create', '--json', '--password=guessed', '--name=ci'])).refused(/E401[^]*the password is wrong/);
    const ci = await create(site, ['--name=ci', '--packages=widget', '--packages-and-scopes-permission=read-write', '--expires=30']);
    const made = tokenOf(ci.shows(/expires: \d{4}-/));
    const narrow = { args: [asToken(site, made)], as: 'nobody' };
    (await publish(site, 'widget', '1.0.0', narrow)).ok();
    (await publish(site, 'gadget', '1.0.0', narrow)).refused(/E403[^]*alice may not write npm:package:gadget/);
    (await npm(site, ['token', 'create', '--json', `--password=${password}`, '--name=more', asToken(site, made)], { as: 'nobody' })).refused(/E403[^]*made for less/);

    const reader = tokenOf(await create(site, ['--name=reader', '--packages-all', '--packages-and-scopes-permission=read-only']));
    (await publish(site, 'widget', '1.1.0', { args: [asToken(site, reader)], as: 'nobody' })).refused(/E403[^]*read-only/);
    const stager = tokenOf(await create(site, ['--name=stager', '--packages-all', '--packages-and-scopes-permission=read-write-stage-only']));
    (await publish(site, 'widget', '1.1.0', { args: [asToken(site, stager)], as: 'nobody' })).refused(/E403[^]*stage releases but not publish/);
    const bound = tokenOf(await create(site, ['--name=bound', '--cidr=10.0.0.0/8']));
    (await publish(site, 'widget', '1.1.0', { args: [asToken(site, bound)], as: 'nobody' })).refused(/E403[^]*networks it was made for/);
    (await create(site, ['--name=none', '--packages-and-scopes-permission=read-write'])).refused(/E422[^]*names no packages/);

    const list = (await npm(site, ['token', 'list', '--json'])).ok().json();
    const named = Object.fromEntries(list.filter(({ name }) => name).map((one) => [one.name, one]));
    assert.deepEqual(Object.keys(named).sort(), ['bound', 'ci', 'reader', 'stager']);
    assert.deepEqual([named.bound.cidr_whitelist, named.reader.readonly, named.ci.readonly], [['10.0.0.0/8'], true, false]);
    (await npm(site, ['token', 'list'])).ok().shows(/name ci/).hides(new RegExp(made));
    (await npm(site, ['token', 'revoke', named.ci.key])).ok().shows(/Removed 1 token/);
    (await npm(site, ['whoami', asToken(site, made)], { as: 'nobody' })).refused(/E401/);
  });

  step('reads and sets a profile', async (site) => {
    (await npm(site, ['profile', 'set', 'fullname', 'Alice of the Tests'])).ok().shows(/Set fullname to Alice of the Tests/);
    (await npm(site, ['profile', 'set', 'email', 'alice@example.com'])).ok();
    const shown = (await npm(site, ['profile', 'get', '--json'])).ok().json();
    assert.deepEqual([shown.name, shown.fullname, shown.email, shown.tfa], ['alice', 'Alice of the Tests', 'alice@example.com', null]);
    (await npm(site, ['profile', 'get'], { as: 'nobody' })).refused(/ENEEDAUTH|E401/);
  });

  step('changes a password', async (site) => {
    const answers = [
      [/current password/i, password],
      [/new password/i, 'another-horse-8'],
      [/again/i, 'another-horse-8'],
    ];
    (await npm(site, ['profile', 'set', 'password'], { as: 'carol', answers })).ok().shows(/Set password/);
    const login = (word) => ({ as: 'fresh', answers: [[/username/i, 'carol'], [/password/i, word]] });
    (await npm(site, ['login', '--auth-type=legacy'], login(password))).refused(/E401[^]*password is wrong/);
    (await npm(site, ['login', '--auth-type=legacy'], login('another-horse-8'))).ok();
  });

  step('logs in with the browser', async (site) => {
    let page;
    const browse = async (seen) => {
      const [url] = seen.match(/http:\S+\/-\/v1\/login\/\S+/);
      page = await (await fetch(url)).text();
      const form = new URLSearchParams({ username: 'bob', password, otp: '' });
      const sent = await fetch(url, { method: 'POST', body: form });
      assert.equal(sent.status, 200, await sent.text());
      return '';
    };
    (await npm(site, ['login', '--auth-type=web'], { as: 'fresh', answers: [[/\/-\/v1\/login\/\S+\s/, browse]] })).ok().shows(/Logged in on/);
    assert.match(page, /One-time pass/);
    assert.equal((await npm(site, ['whoami'], { as: 'fresh' })).ok().stdout.trim(), 'bob');
    (await npm(site, ['logout'], { as: 'fresh' })).ok();
  });

  step('makes an organisation, teams, and grants', async (site) => {
    (await npm(site, ['org', 'set', 'acme', 'alice', 'owner'])).ok().shows(/Added alice as owner to acme\. You now have 1 member /);
    (await npm(site, ['org', 'set', 'acme', 'bob'])).ok().shows(/Added bob as developer/);
    (await npm(site, ['org', 'set', 'acme', 'nobody-at-all'])).refused(/E404[^]*there is no user nobody-at-all/);
    (await npm(site, ['org', 'ls', 'acme'])).ok().shows(/alice - owner\nbob - developer/);
    (await npm(site, ['team', 'create', 'acme:core'])).ok().shows(/\+@acme:core/);
    (await npm(site, ['team', 'add', 'acme:core', 'bob'])).ok().shows(/bob added to @acme:core/);
    (await npm(site, ['team', 'ls', 'acme'])).ok().shows(/@acme:core/).shows(/@acme:developers/);
    (await npm(site, ['team', 'ls', 'acme:core'])).ok().shows(/bob/);
    (await publish(site, '@acme/gadget', '1.0.0', { args: ['--access', 'public'] })).ok();
    (await npm(site, ['access', 'grant', 'read-write', 'acme:core', '@acme/gadget'])).ok();
    (await publish(site, '@acme/gadget', '1.1.0', { as: 'bob' })).ok();
    assert.deepEqual((await npm(site, ['access', 'list', 'packages', 'acme:core', '--json'])).ok().json(), { '@acme/gadget': 'read-write' });
    assert.deepEqual((await npm(site, ['access', 'list', 'packages', 'acme', '--json'])).ok().json(), { '@acme/gadget': 'read-write' });
    assert.deepEqual((await npm(site, ['access', 'list', 'packages', '--json'])).ok().json(), { '@acme/gadget': 'read-write', widget: 'read-write' });
    (await npm(site, ['access', 'list', 'collaborators', '@acme/gadget'])).ok().shows(/alice: read-write\nbob: read-write/);
  });

  step('keeps others out, and says why', async (site) => {
    (await publish(site, '@acme/other', '1.0.0', { as: 'carol' })).refused(/E403[^]*belongs to an organisation that does not let you write/);
    (await npm(site, ['org', 'set', 'acme', 'carol', 'owner'], { as: 'carol' })).refused(/E404/);
    (await npm(site, ['org', 'set', 'bob', 'carol', 'owner'], { as: 'carol' })).refused(/E403[^]*somebody else's/);
    (await npm(site, ['access', 'get', 'status', '@acme/gadget'])).ok().shows(/@acme\/gadget: public/);
    (await npm(site, ['access', 'set', 'status=private', '@acme/gadget'])).ok().shows(/@acme\/gadget: private/);
    (await npm(site, ['view', '@acme/gadget', 'version'], { as: 'carol' })).refused(/E404/);
    (await npm(site, ['view', '@acme/gadget', 'version'], { as: 'bob' })).ok().shows(/1\.1\.0/);
    (await npm(site, ['access', 'set', 'status=public', '@acme/gadget'])).ok();
    (await npm(site, ['access', 'revoke', 'acme:core', '@acme/gadget'])).ok();
    (await npm(site, ['team', 'rm', 'acme:core', 'bob'])).ok();
    (await npm(site, ['team', 'destroy', 'acme:core'])).ok();
    (await npm(site, ['org', 'rm', 'acme', 'bob'])).ok().shows(/Successfully removed bob from acme/);
    (await publish(site, '@acme/gadget', '1.2.0', { as: 'bob' })).refused(/E403/);
    (await npm(site, ['org', 'rm', 'acme', 'alice'])).refused(/E403[^]*last owner/);
  });

  step('trusts a build, which publishes without a token', async (site) => {
    const github = ['trust', 'github', '@acme/gadget', '--file=release.yml', '--repo=acme/gadget', '--allow-publish', '--yes'];
    (await npm(site, github)).ok().shows(/Trust configuration created successfully/).shows(/repository: acme\/gadget/);
    (await npm(site, github, { as: 'carol' })).refused(/E403/);
    const listed = (await npm(site, ['trust', 'list', '@acme/gadget'])).ok().shows(/file: release\.yml/).output;
    const claims = { repository: 'acme/gadget', workflow_ref: 'acme/gadget/.github/workflows/release.yml@refs/heads/main' };
    const build = (changes) => ({ as: 'nobody', env: builds.build({ ...claims, ...changes }) });
    (await publish(site, '@acme/gadget', '2.0.0', build({ repository: 'evil/gadget' }))).refused(/ENEEDAUTH/);
    (await publish(site, '@acme/gadget', '2.0.0', build({ aud: 'npm:evil.example.com' }))).refused(/ENEEDAUTH/);
    (await publish(site, '@acme/gadget', '2.0.0', build({}))).ok().shows(/\+ @acme\/gadget@2\.0\.0/);
    assert.ok(builds.asked.includes('/.well-known/openid-configuration') && builds.asked.includes('/keys'), `the issuer was asked for ${builds.asked}`);
    const { _npmUser } = (await (await fetch(`${site.registry.npm}@acme%2fgadget/2.0.0`)).json());
    assert.deepEqual([_npmUser.name, _npmUser.trustedPublisher.id], ['github:acme/gadget', 'github']);
    const id = listed.match(/id: .*?([0-9a-f-]{36})/)[1];
    (await npm(site, ['trust', 'revoke', '@acme/gadget', `--id=${id}`])).ok().shows(/Revoked trusted configuration/);
    (await publish(site, '@acme/gadget', '2.1.0', build({}))).refused(/ENEEDAUTH/);
  });

  step('enrols a second factor', async (site) => {
    const answers = [
      [/password:/i, password],
      [
        /OTP code from your authenticator/i,
        (seen) => {
          site.app = new Authenticator(seen.match(/Or enter code:\s+(?:\x1b\[\S*?m)?([A-Z2-7]{32})/)[1]);
          return site.app.code();
        },
      ],
    ];
    const enrolled = (await npm(site, ['profile', 'enable-2fa', 'auth-and-writes'], { as: 'frank', answers })).ok().shows(/2FA successfully enabled/);
    site.recovery = enrolled.output.match(/^\s+[0-9a-f]{64}$/gm).map((code) => code.trim());
    assert.equal(site.recovery.length, 10);
    assert.deepEqual((await npm(site, ['profile', 'get', '--json'], { as: 'frank' })).ok().json().tfa, { mode: 'auth-and-writes', pending: false });
  });

  step('publishes with a code, given or asked for', async (site) => {
    (await publish(site, 'safe', '1.0.0', { as: 'frank' })).refused(/EOTP[^]*one-time password/);
    (await publish(site, 'safe', '1.0.0', { as: 'frank', args: ['--otp=000000'] })).refused(/EOTP/);
    const code = await site.app.code();
    (await publish(site, 'safe', '1.0.0', { as: 'frank', args: [`--otp=${code}`] })).ok();
    (await publish(site, 'safer', '1.0.0', { as: 'frank', args: [`--otp=${code}`] })).ok();
    const answers = [[/Enter OTP:/, () => site.app.code()]];
    (await publish(site, 'safe', '1.1.0', { as: 'frank', terminal: true, answers })).ok().shows(/\+ safe@1\.1\.0/);
    (await npm(site, ['dist-tag', 'add', 'safe@1.0.0', 'old'], { as: 'frank' })).refused(/EOTP/);
    assert.equal((await npm(site, ['whoami'], { as: 'frank' })).ok().stdout.trim(), 'frank');
  });

  step('logs in with a code', async (site) => {
    const answers = [[/username/i, 'frank'], [/password/i, password]];
    (await npm(site, ['login', '--auth-type=legacy'], { as: 'fresh', answers })).refused(/EOTP/);
    (await npm(site, ['login', '--auth-type=legacy', `--otp=${site.recovery[0]}`], { as: 'fresh', answers })).ok().shows(/Logged in/);
    (await npm(site, ['login', '--auth-type=legacy', `--otp=${site.recovery[0]}`], { as: 'fresh', answers })).refused(/EOTP/);
  });

  step('demands a code for one package, and lets robots be', async (site) => {
    const robot = tokenOf(await create(site, ['--name=robot', '--bypass-2fa', `--otp=${site.recovery[1]}`], { as: 'frank' }));
    const by = (token) => ({ as: 'nobody', args: [asToken(site, token)] });
    (await publish(site, 'safe', '1.2.0', by(robot))).ok();
    (await npm(site, ['access', 'set', 'mfa=publish', 'safe', `--otp=${site.recovery[2]}`], { as: 'frank' })).ok();
    (await publish(site, 'safe', '1.3.0', by(robot))).refused(/EOTP/);
    (await publish(site, 'safe', '1.3.0', { as: 'bob' })).refused(/E403[^]*enable-2fa/);
    (await npm(site, ['access', 'set', 'mfa=automation', 'safe', `--otp=${site.recovery[3]}`], { as: 'frank' })).ok();
    (await publish(site, 'safe', '1.3.0', by(robot))).ok();
  });

  step('takes the second factor away again', async (site) => {
    const answers = [[/password:/i, password], [/Enter OTP:/, site.recovery[4]]];
    (await npm(site, ['profile', 'disable-2fa'], { as: 'frank', terminal: true, answers })).ok().shows(/authentication disabled/);
    (await publish(site, 'plain', '1.0.0', { as: 'frank' })).ok();
    const { tfa } = await call(site, site.frank, 'GET', '-/npm/v1/user');
    assert.equal(tfa, null);
  });
});

for (const name of ['npm-6', 'npm-8', 'npm-10', 'npm-12']) {
  const older = async (site, args, { cwd = site.box.dir, as, ...more }) => run([...(await client(name)).argv, ...args], { cwd, env: site.as(as), ...more });

  matrix(`${name} accounts`, { storages: few, modes: ['listener'], protocol: 'npm', setUp }, (step) => {
    step('logs in, says who it is, publishes, and logs out', async (site) => {
      const answers = [[/username/i, 'bob'], [/password/i, password], ...(['npm-6', 'npm-8'].includes(name) ? [[/email/i, 'bob@example.com']] : [])];
      const legacy = name === 'npm-6' ? [] : ['--auth-type=legacy'];
      (await older(site, ['login', ...legacy], { as: 'fresh', answers })).ok().shows(/Logged in/);
      assert.match((await older(site, ['whoami'], { as: 'fresh' })).ok().stdout, /bob/);
      const { folder } = await writePackage(await site.box.folder('tool'), { name: 'tool', version: '1.0.0' });
      (await older(site, ['publish'], { cwd: folder, as: 'fresh' })).ok().shows(/\+ tool@1\.0\.0/);
      (await older(site, ['logout'], { as: 'fresh' })).ok();
      (await older(site, ['whoami'], { as: 'fresh' })).refused(/ENEEDAUTH|E401/);
    });

    step('lists and makes tokens', async (site) => {
      const flags = name === 'npm-12' ? [`--password=${password}`, '--name=made', '--packages-all', '--packages-and-scopes-permission=read-only'] : ['--read-only'];
      const answers = name === 'npm-12' ? undefined : [[/password/i, password]];
      const made = (await older(site, ['token', 'create', ...flags], { as: 'bob', answers })).ok().shows(UUID);
      const [token] = made.output.match(UUID);
      const { folder } = await writePackage(await site.box.folder('reads'), { name: 'reads', version: '1.0.0' });
      (await older(site, ['publish', asToken(site, token)], { cwd: folder, as: 'nobody' })).refused(/E403|read-only/);
      (await older(site, ['token', 'list'], { as: 'bob' })).ok();
      (await older(site, ['token', 'revoke', token], { as: 'bob' })).ok();
      (await older(site, ['whoami', asToken(site, token)], { as: 'nobody' })).refused(/E401|log ?in/i);
    });

    step('is asked for a code', async (site) => {
      const { app } = await enrol(site, site.frank, 'auth-and-writes');
      const { folder } = await writePackage(await site.box.folder('safe'), { name: 'safe', version: '1.0.0' });
      (await older(site, ['publish'], { cwd: folder, as: 'frank' })).refused(/EOTP/);
      (await older(site, ['publish', `--otp=${await app.code()}`], { cwd: folder, as: 'frank' })).ok();
    });
  });
}
