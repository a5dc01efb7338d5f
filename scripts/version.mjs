// `npm run version:set -- X.Y.Z`: gives every part the version, and what the changelog has under "Unreleased" that heading. Commit and tag (`vX.Y.Z`)
// are the caller's; the tag starts the release. `--root DIR` works on another checkout.
import { readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { platforms, root as here } from './lib/paths.mjs';
import { script, StepError } from './lib/run.mjs';

/** The expression that semver.org gives. */
const SEMVER = /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?$/;

const NAME = 'smartregistry-native';

await script(async () => {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { root: { type: 'string', default: here } } });
  const [version, ...more] = positionals;
  if (more.length || !SEMVER.test(version ?? '')) throw new StepError('name one version, as in: npm run version:set -- 1.2.3 (or 1.2.3-rc.1)');
  const root = resolve(values.root);
  const old = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')).version;
  if (old === version) throw new StepError(`the version is ${version} already`);
  // All is computed before anything is written: a file that does not look as expected leaves the others alone.
  const changes = await Promise.all(parts(old, version).map(async ([file, change]) => [join(root, file), change(await readFile(join(root, file), 'utf8'), file)]));
  for (const [file, text] of changes) await writeFile(file, text);
  console.log(`${old} is now ${version} in ${changes.length} files. Next: git commit -am "Release ${version}" && git tag v${version}`);
});

function parts(old, version) {
  const json = once(`"version": "${old}"`, `"version": "${version}"`);
  const crate = once(`name = "${NAME}"\nversion = "${old}"`, `name = "${NAME}"\nversion = "${version}"`);
  return [
    ['package.json', json],
    ...platforms.map((name) => [`npm/${name}/package.json`, json]),
    ['package-lock.json', (text) => lockFile(text, version)],
    ['Cargo.toml', crate],
    ['Cargo.lock', crate],
    ['fuzz/Cargo.lock', crate],
    ['CHANGELOG.md', (text) => changelog(text, version)],
  ];
}

function once(from, to) {
  return (text, file) => {
    const count = text.split(from).length - 1;
    if (count !== 1) throw new StepError(`${file} has ${JSON.stringify(from)} ${count} times, not once`);
    return text.replace(from, () => to);
  };
}

function lockFile(text, version) {
  const lock = JSON.parse(text);
  lock.version = version;
  lock.packages[''].version = version;
  return `${JSON.stringify(lock, undefined, 2)}\n`;
}

function changelog(text, version) {
  const [, found] = /^## Unreleased\n([^]*?)(?=^## |$(?![^]))/m.exec(text) ?? [];
  if (!found?.trim()) throw new StepError('CHANGELOG.md has nothing under "## Unreleased": say first what users get');
  const today = new Date().toISOString().slice(0, 10);
  return text.replace('## Unreleased\n', () => `## Unreleased\n\n## ${version} - ${today}\n`);
}
