// The conformance suites of the OCI Distribution Specification: the present one with everything that it can test switched on, and the one
// before its redesign. Nothing may fail and nothing may be skipped, through the native listener and through Express with `nodeHandler()`.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { matrix, password } from '../support/matrix.mjs';
import { run } from '../support/process.mjs';

const present = await client('oci-conformance');
const former = await client('oci-conformance-1');

const everywhere = {
  protocol: 'oci',
  modes: ['listener', 'express-handler'],
  storages: ['local', 'moto'],
  seconds: 600,
  // The suite's `sparse` pushes an image without its layers, which has to be asked for.
  config: { oci: { features: { sparseImages: true } } },
};

/** What the former suite runs only without an earlier test of its own, or against a registry that does not mount. */
const alternatives = [
  /Populate registry with test tags? \(no push\)|Get tag name from environment/,
  /Cross-mounting of nonexistent blob should yield session id/,
  /Cross-mounting without from, and automatic content discovery disabled/,
];

async function presentSuite(site, t) {
  const folder = await site.box.folder('present');
  const env = {
    ...site.box.env,
    OCI_REGISTRY: site.registry.host,
    OCI_TLS: 'disabled',
    OCI_VERSION: 'dev',
    OCI_USERNAME: 'alice',
    OCI_PASSWORD: password,
    OCI_REPO1: 'conformance/one',
    OCI_REPO2: 'conformance/two',
    // The one switch that the version leaves off.
    OCI_DATA_SPARSE: 'true',
    OCI_RESULTS_DIR: folder,
  };
  const ended = await run(present.argv, { cwd: folder, env, seconds: 590 });
  const counts = Object.fromEntries([...ended.stdout.matchAll(/^  (Disabled|Skip|Pass|FAIL|Error|Total)\.*: +(\d+)$/gm)].map(([, name, count]) => [name, Number(count)]));
  t.diagnostic(`OCI conformance ${present.version}: ${JSON.stringify(counts)}`);
  const { Pass: passed, Total: total } = counts;
  const wrong = ended.stdout.match(/^ +[^\n]*: (?:FAIL|Error|Skip|Disabled)\n(?: +- [^\n]*\n)*/gm) ?? [];
  assert.ok(total > 500 && passed === total, `${wrong.join('').slice(0, 20_000)}\n${ended.describe()}`);
  ended.ok();
}

async function formerSuite(site, t) {
  const folder = await site.box.folder('former');
  const env = {
    ...site.box.env,
    OCI_ROOT_URL: site.registry.url,
    OCI_NAMESPACE: 'former/one',
    OCI_CROSSMOUNT_NAMESPACE: 'former/two',
    OCI_AUTOMATIC_CROSSMOUNT: '1',
    OCI_USERNAME: 'alice',
    OCI_PASSWORD: password,
    OCI_TEST_PULL: '1',
    OCI_TEST_PUSH: '1',
    OCI_TEST_CONTENT_DISCOVERY: '1',
    OCI_TEST_CONTENT_MANAGEMENT: '1',
    OCI_REPORT_DIR: folder,
  };
  const ended = await run(former.argv, { cwd: folder, env, seconds: 590 });
  const report = await readFile(join(folder, 'junit.xml'), 'utf8').catch(() => '');
  const specs = [...report.matchAll(/<testcase name="\[It\] ([^"]*)"[^>]* status="(\w+)"/g)].map(([, name, status]) => ({ name, status }));
  const of = (status) => specs.filter((spec) => spec.status === status);
  const skipped = of('skipped').filter(({ name }) => !alternatives.some((pattern) => pattern.test(name)));
  t.diagnostic(`OCI conformance ${former.version}: ${of('passed').length} passed of ${specs.length}, ${of('skipped').length} for registries that are otherwise`);
  assert.deepEqual(skipped, [], ended.describe());
  assert.ok(of('passed').length >= 70, ended.describe());
  ended.ok();
}

matrix('the conformance suites', everywhere, (step) => {
  step('the present suite, everything on', presentSuite);
  step('the suite before it', formerSuite);
});
