// npm's provenance, from the build to whoever installs: published from a build and from a file, checked by `npm audit signatures` with Sigstore's root of trust,
// here and through a registry that has all of it from here.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { client } from '../../scripts/clients.mjs';
import { servedIssuer } from '../support/authenticator.mjs';
import { password } from '../support/matrix.mjs';
import { npmrc } from '../support/npm-config.mjs';
import { assertInstalled, write, writePackage, writeProject } from '../support/packages.mjs';
import { run } from '../support/process.mjs';
import { startRegistry } from '../support/registry.mjs';
import { sandbox } from '../support/sandbox.mjs';
import { sigstore } from '../support/sigstore.mjs';

const programs = Object.fromEntries(await Promise.all(['npm-10', 'npm', 'npm-12'].map(async (name) => [name, await client(name)])));

describe('provenance', { concurrency: 1 }, () => {
  let box;
  let trust;
  let builds;
  let origin;
  let proxy;
  let env;
  const made = {};

  before(async () => {
    box = await sandbox('provenance');
    [trust, builds, origin] = await Promise.all([sigstore(programs.npm), servedIssuer(), startRegistry('listener', 'local')]);
    proxy = await startRegistry('listener', 'local', { upstreams: { npm: { upstreams: [{ id: 'origin', url: origin.npm, priority: 1, enabled: true }] } } });
    const known = [join(box.env.XDG_DATA_HOME, 'sigstore-js')];
    for (const [person, registry] of Object.entries({ origin, proxy })) {
      const home = join(box.home, person);
      await registry.addUser('alice', password);
      await write(home, { '.npmrc': npmrc(registry.npm, await registry.createToken('alice', 'npm')) });
      known.push(join(home, '.npm/_tuf'));
    }
    env = { ...box.env, ...(await trust.env(box.home, known)) };
  }, { timeout: 120_000 });

  after(async () => {
    for (const registry of [proxy, origin]) await registry?.stop();
    await builds?.close();
    await trust?.close();
    await box.remove();
  });

  const npm = (as, args, cwd, { version = 'npm', more = {} } = {}) =>
    run([...programs[version].argv, ...args], { cwd, env: { ...env, HOME: join(box.home, as), XDG_CONFIG_HOME: join(box.home, as, '.config'), ...more } });
  const make = async (name, version, more) => (made[name] = await writePackage(await box.folder(`${name}-${version}`), { name, version, ...more }));
  const attestations = async (registry, spec) => (await (await fetch(`${registry.npm}-/npm/v1/attestations/${spec.replace('/', '%2f')}`)).json()).attestations;
  const statementOf = ({ bundle }) => JSON.parse(Buffer.from(bundle.dsseEnvelope.payload, 'base64'));

  it('a build publishes with what it says of itself', async () => {
    const { folder } = await make('@acme/tool', '1.0.0', { repository: 'github:acme/tool' });
    const claims = { sub: 'repo:acme/tool:ref:refs/heads/main', repository: 'acme/tool', ref: 'refs/heads/main', sha: 'a'.repeat(40) };
    const github = {
      GITHUB_REPOSITORY: 'acme/tool',
      GITHUB_REPOSITORY_ID: '1',
      GITHUB_REPOSITORY_OWNER_ID: '2',
      GITHUB_SERVER_URL: 'https://code.example.com',
      GITHUB_WORKFLOW_REF: 'acme/tool/.github/workflows/release.yml@refs/heads/main',
      GITHUB_EVENT_NAME: 'push',
      GITHUB_REF: 'refs/heads/main',
      GITHUB_SHA: 'a'.repeat(40),
      GITHUB_RUN_ID: '7',
      GITHUB_RUN_ATTEMPT: '1',
      RUNNER_ENVIRONMENT: 'github-hosted',
    };
    const published = await npm('origin', ['publish', '--provenance', '--access=public'], folder, { more: { ...builds.build(claims), ...github } });
    published.ok().shows(/Signed provenance statement with source and build information from GitHub Actions/).shows(/\+ @acme\/tool@1\.0\.0/);
    const [attestation, ...others] = await attestations(origin, '@acme/tool@1.0.0');
    assert.deepEqual([attestation.predicateType, others.length], ['https://slsa.dev/provenance/v1', 0]);
    const { subject, predicate } = statementOf(attestation);
    assert.equal(subject[0].name, 'pkg:npm/%40acme/tool@1.0.0');
    assert.equal(predicate.buildDefinition.externalParameters.workflow.repository, 'https://code.example.com/acme/tool');
    const shown = (await npm('origin', ['view', '@acme/tool@1.0.0', 'dist.attestations', '--json'], box.dir)).ok().json();
    assert.deepEqual(shown, { url: `${origin.npm}-/npm/v1/attestations/@acme%2ftool@1.0.0`, provenance: { predicateType: 'https://slsa.dev/provenance/v1' } });
  });

  it('a bundle that was made elsewhere is published along from its file', async () => {
    const { folder } = await make('widget', '1.0.0');
    const [{ filename }] = (await npm('origin', ['pack', '--json', '--pack-destination', box.dir], folder)).ok().json();
    const sha512 = createHash('sha512').update(await readFile(join(box.dir, filename))).digest('hex');
    const bundle = await trust.attest({
      _type: 'https://in-toto.io/Statement/v1',
      subject: [{ name: 'pkg:npm/widget@1.0.0', digest: { sha512 } }],
      predicateType: 'https://slsa.dev/provenance/v1',
      predicate: { buildDefinition: { buildType: 'https://builds.example.com/by-hand' } },
    });
    await write(box.dir, { 'widget.sigstore': JSON.stringify(bundle) });
    const args = ['publish', `--provenance-file=${join(box.dir, 'widget.sigstore')}`];
    (await npm('origin', args, (await make('gadget', '1.0.0')).folder)).refused(/Provenance subject pkg:npm\/widget@1\.0\.0 does not match the package/);
    (await npm('origin', args, folder)).ok().shows(/\+ widget@1\.0\.0/);
    assert.deepEqual(await attestations(origin, 'widget@1.0.0'), [{ predicateType: 'https://slsa.dev/provenance/v1', bundle }]);
    for (const name of ['gadget', 'plain']) (await npm('origin', ['publish'], (await make(name, '1.0.0')).folder)).ok();
    assert.equal((await fetch(`${origin.npm}-/npm/v1/attestations/gadget@1.0.0`)).status, 404);
  });

  const audit = async (as, version, counts, dependencies) => {
    const folder = await box.folder(`audited-${as}-${version}`);
    await writeProject(folder, dependencies);
    (await npm(as, ['install', '--no-audit'], folder, { version })).ok();
    for (const name of Object.keys(dependencies)) await assertInstalled(folder, made[name]);
    const audited = (await npm(as, ['audit', 'signatures'], folder, { version })).ok();
    audited.shows(new RegExp(`${counts.signed} packages have verified registry signatures`));
    if (counts.attested) audited.shows(new RegExp(`${counts.attested} packages have verified attestations`));
    return folder;
  };
  const dependencies = { '@acme/tool': '1.0.0', widget: '1.0.0', gadget: '1.0.0' };

  for (const version of ['npm', 'npm-12']) {
    it(`${version} finds signatures and attestations good`, () => audit('origin', version, { signed: 3, attested: 2 }, dependencies));
  }

  it('npm-10 finds signatures good', async () => {
    // Of what is attested it wants an attestation by the registry itself, too, which there is none of.
    await audit('origin', 'npm-10', { signed: 2 }, { gadget: '1.0.0', plain: '1.0.0' });
    await audit('proxy', 'npm-10', { signed: 2 }, { gadget: '1.0.0', plain: '1.0.0' });
  });

  it('and so it does through a registry that has them from there, and signs with a key of its own', async () => {
    (await npm('proxy', ['publish'], (await make('own', '1.0.0')).folder)).ok();
    const folder = await audit('proxy', 'npm', { signed: 4, attested: 2 }, { ...dependencies, own: '1.0.0' });
    const said = (await npm('proxy', ['audit', 'signatures', '--json', '--include-attestations'], folder)).ok().json();
    assert.deepEqual([said.invalid, said.missing, said.verified.map(({ name }) => name).sort()], [[], [], ['@acme/tool', 'widget']]);
    const [theirs, ours] = await Promise.all([origin, proxy].map(async ({ npm: url }) => (await (await fetch(`${url}-/npm/v1/keys`)).json()).keys));
    assert.deepEqual([theirs.length, ours.length], [1, 2]);
  });
});
