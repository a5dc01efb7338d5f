// npm: what comes after publishing. Deprecation, owners, stars, unpublishing, audits, signatures, staged publishing.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { few, matrix, password } from '../support/matrix.mjs';
import { npmrc, people } from '../support/npm-config.mjs';
import { assertSigned, config, packument } from '../support/npm-manage.mjs';
import { assertInstalled, assertIntegrity, writePackage, writeProject } from '../support/packages.mjs';
import { run } from '../support/process.mjs';

const { argv } = await client('npm');

const npm = (site, args, { cwd = site.box.dir, as = 'owner', ...more } = {}) => run([...argv, ...args], { cwd, env: site.as(as), ...more });

const setUp = async (site) => {
  await people(site, (url, token) => ({ '.npmrc': npmrc(url, token) }));
  await site.registry.addUser('bob', password);
};

matrix('npm, after publishing', { storages: few, protocol: 'npm', config, setUp }, (step) => {
  const publishing = async (site, manifest, args = []) => {
    const made = await writePackage(await site.box.folder(`${manifest.name}-${manifest.version}`), manifest);
    (await npm(site, ['publish', ...args], { cwd: made.folder })).ok();
    return made;
  };
  const deprecated = async (site, name) => {
    const { versions } = await packument(site, name);
    return Object.fromEntries(Object.values(versions).map((one) => [one.version, one.deprecated]));
  };

  step('publishes, and says what as JSON', async (site) => {
    for (const version of ['1.0.0', '1.1.0', '1.2.0', '2.0.0']) await publishing(site, { name: 'widget', version });
    const made = await writePackage(await site.box.folder('patch'), { name: '@acme/gadget', version: '1.0.0-patch' });
    const { '@acme/gadget': said } = (await npm(site, ['publish', '--json', '--access', 'public', '--tag', 'patch'], { cwd: made.folder })).ok().json();
    assert.equal(said.name, '@acme/gadget');
    assert.ok(said.files.length > 3);
  });

  step('deprecates a version, and takes it back', async (site) => {
    (await npm(site, ['deprecate', 'widget@1.0.0', 'too old, sorry'])).ok();
    assert.deepEqual(await deprecated(site, 'widget'), { '1.0.0': 'too old, sorry', '1.1.0': undefined, '1.2.0': undefined, '2.0.0': undefined });
    assert.equal((await npm(site, ['view', 'widget@1.0.0', 'deprecated'])).ok().stdout.trim(), 'too old, sorry');
    const project = await site.box.folder('old');
    await writeProject(project, { widget: '1.0.0' });
    (await npm(site, ['install'], { cwd: project })).ok().shows(/deprecated widget@1\.0\.0: too old, sorry/);
    (await npm(site, ['deprecate', 'widget@1.0.0', ''])).ok();
    assert.equal((await deprecated(site, 'widget'))['1.0.0'], undefined);
  });

  step('deprecates all versions, and no later one', async (site) => {
    (await npm(site, ['deprecate', 'widget', 'unmaintained'])).ok();
    await publishing(site, { name: 'widget', version: '2.1.0' });
    assert.deepEqual(await deprecated(site, 'widget'), { '1.0.0': 'unmaintained', '1.1.0': 'unmaintained', '1.2.0': 'unmaintained', '2.0.0': 'unmaintained', '2.1.0': undefined });
    (await npm(site, ['undeprecate', 'widget'])).ok();
    assert.ok(Object.values(await deprecated(site, 'widget')).every((one) => one === undefined));
    await assertIntegrity(site.registry.npm, 'widget', '1.0.0');
    (await npm(site, ['deprecate', 'widget', 'x'], { as: 'reader' })).refused(/E403[^]*read-only/);
  });

  step('adds, lists and removes owners', async (site) => {
    (await npm(site, ['owner', 'add', 'bob', 'widget'])).ok().shows(/bob/);
    assert.match((await npm(site, ['owner', 'ls', 'widget'])).ok().stdout, /alice[^]*bob/);
    (await npm(site, ['owner', 'rm', 'alice', 'widget'])).ok();
    (await npm(site, ['owner', 'ls', 'widget'])).ok().hides(/alice/);
    (await npm(site, ['owner', 'add', 'nobody-here', 'widget'])).refused(/E404|not found/i);
    (await npm(site, ['owner', 'rm', 'bob', 'widget'])).refused(/Cannot remove all owners/);
    assert.equal(Object.keys((await packument(site, 'widget')).versions).length, 5);
  });

  step('stars, lists the stars, and unstars', async (site) => {
    // Of several names on one line npm takes the first.
    for (const name of ['widget', '@acme/gadget']) (await npm(site, ['star', name])).ok();
    (await npm(site, ['stars'])).ok().shows(/^widget$/m).shows(/^@acme\/gadget$/m);
    (await npm(site, ['stars', 'alice'], { as: 'nobody' })).ok().shows(/^widget$/m);
    (await npm(site, ['unstar', 'widget'])).ok();
    (await npm(site, ['stars'])).ok().hides(/^widget$/m).shows(/^@acme\/gadget$/m);
    assert.deepEqual((await packument(site, '@acme/gadget')).users, { alice: true });
  });

  step('finds what is here, and of what is private only what the caller may read', async (site) => {
    await publishing(site, { name: '@private/gizmo', version: '1.0.0', description: 'a thing like a gadget', keywords: ['thing'] });
    const found = async (words, as) => (await npm(site, ['search', ...words, '--json'], { as })).ok().json();
    const [gadget] = await found(['gadget'], 'nobody');
    assert.deepEqual([gadget.name, gadget.version, gadget.description], ['@acme/gadget', '1.0.0-patch', 'test package @acme/gadget']);
    assert.match(gadget.date, /^\d{4}-\d\d-\d\dT/);
    assert.deepEqual(gadget.maintainers.map(({ username }) => username), ['alice']);
    assert.deepEqual((await found(['gadget'], 'owner')).map(({ name }) => name).sort(), ['@acme/gadget', '@private/gizmo']);
    assert.deepEqual((await found(['keywords:thing'], 'owner')).map(({ name }) => name), ['@private/gizmo']);
    assert.deepEqual(await found(['keywords:thing'], 'nobody'), []);
    (await npm(site, ['search', 'gadget'])).ok().shows(/@acme\/gadget/).shows(/test package @acme\/gadget/).shows(/Version 1\.0\.0-patch published \d{4}-\d\d-\d\d by alice/);
    (await npm(site, ['search', 'nothing-like-it'])).ok().shows(/No matches found for "nothing-like-it"/);
  });

  step('is told of a vulnerability', async (site) => {
    site.weak = await publishing(site, { name: 'weak', version: '1.0.0' });
    await publishing(site, { name: 'weak', version: '2.0.0' });
    site.project = await site.box.folder('audited');
    await writeProject(site.project, { weak: '1.0.0', widget: '2.1.0' });
    (await npm(site, ['install'], { cwd: site.project })).ok().shows(/1 high severity vulnerability/);
    await assertInstalled(site.project, site.weak);
    (await npm(site, ['audit'], { cwd: site.project })).refused(/weak\s+1\.0\.0\nSeverity: high\nweak is too weak/);
    const audited = await npm(site, ['audit', '--json'], { cwd: site.project });
    const said = JSON.parse(audited.stdout);
    assert.equal(said.auditReportVersion, 2);
    assert.deepEqual(said.metadata.vulnerabilities, { info: 0, low: 0, moderate: 0, high: 1, critical: 0, total: 1 });
    assert.equal(said.vulnerabilities.weak.via[0].title, 'weak is too weak');
    (await npm(site, ['audit', 'fix', '--force'], { cwd: site.project })).ok().shows(/found 0 vulnerabilities/);
    assert.equal(JSON.parse(await readFile(join(site.project, 'node_modules/weak/package.json'), 'utf8')).version, '2.0.0');
    (await npm(site, ['audit'], { cwd: site.project })).ok().shows(/found 0 vulnerabilities/);
  });

  step('finds every version signed', async (site) => {
    // This npm asks for Sigstore's root of trust first; provenance.spec.mjs has one for it.
    await assertSigned(site, 'widget');
    await assertSigned(site, '@acme/gadget');
  });

  step('stages a version, lists, views, downloads, approves and rejects it', async (site) => {
    const stage = async (version) => {
      const made = await writePackage(await site.box.folder(`staged-${version}`), { name: 'widget', version });
      const said = (await npm(site, ['stage', 'publish', '--json'], { cwd: made.folder })).ok();
      const listed = (await npm(site, ['stage', 'list', '--json'])).ok().json();
      const item = (Array.isArray(listed) ? listed : listed.items ?? Object.values(listed)).find((one) => one.version === version);
      assert.ok(item, said.describe());
      return { ...made, id: item.id };
    };
    const approved = await stage('3.0.0');
    assert.equal((await packument(site, 'widget')).versions['3.0.0'], undefined);
    (await npm(site, ['stage', 'list'])).ok().shows(/widget/).shows(/3\.0\.0/);
    (await npm(site, ['stage', 'view', approved.id])).ok().shows(/3\.0\.0/).shows(/alice/);
    (await npm(site, ['stage', 'download', approved.id], { cwd: await site.box.folder('downloads') })).ok();
    (await npm(site, ['publish', '--force'], { cwd: approved.folder })).refused(/E403[^]*cannot publish over the previously published versions: 3\.0\.0/);
    (await npm(site, ['stage', 'approve', approved.id], { as: 'reader' })).refused(/E40[34]/);
    (await npm(site, ['stage', 'approve', approved.id])).ok().shows(/approved and published/);
    const { 'dist-tags': tags, versions } = await assertIntegrity(site.registry.npm, 'widget', '3.0.0');
    assert.equal(tags.latest, '3.0.0');
    assert.equal(versions['3.0.0']._npmUser.approver.name, 'alice');
    const rejected = await stage('3.1.0');
    (await npm(site, ['stage', 'reject', rejected.id])).ok();
    (await npm(site, ['stage', 'view', rejected.id])).refused(/E404/);
    (await npm(site, ['publish'], { cwd: rejected.folder })).ok();
  });

  step('unpublishes one version', async (site) => {
    (await npm(site, ['unpublish', 'widget@1.1.0'])).ok().shows(/- widget@1\.1\.0/);
    assert.deepEqual(Object.keys((await packument(site, 'widget')).versions), ['1.0.0', '1.2.0', '2.0.0', '2.1.0', '3.0.0', '3.1.0']);
    assert.equal((await fetch(`${site.registry.npm}widget/-/widget-1.1.0.tgz`)).status, 404);
    // The latest one: its tag goes to the next.
    (await npm(site, ['unpublish', 'widget@3.1.0'])).ok();
    assert.equal((await packument(site, 'widget'))['dist-tags'].latest, '3.0.0');
    const again = await writePackage(await site.box.folder('again'), { name: 'widget', version: '1.1.0', description: 'another' });
    (await npm(site, ['publish', '--force', '--tag', 'old'], { cwd: again.folder })).refused(/E403[^]*cannot publish over the previously published versions: 1\.1\.0/);
    (await npm(site, ['unpublish', 'widget@1.0.0'], { as: 'reader' })).refused(/E403/);
  });

  step('unpublishes a whole package, and is told who did', async (site) => {
    (await npm(site, ['unpublish', 'widget'])).refused(/--force/);
    for (const name of ['widget', '@acme/gadget']) (await npm(site, ['unpublish', name, '--force'])).ok().shows(new RegExp(`- ${name}`));
    const project = await site.box.folder('gone');
    await writeProject(project, {});
    (await npm(site, ['install', 'widget'], { cwd: project })).refused(/ENOVERSIONS|ETARGET|E404/);
    (await npm(site, ['view', 'widget'])).refused(/E404[^]*npm unpublished|Unpublished on/i).shows(/alice|Unpublished/);
    (await npm(site, ['publish'], { cwd: join(site.box.dir, 'widget-1.0.0') })).refused(/cannot publish over/);
  });
});
