// Packs the packages as they are published: the facade, and one per platform whose addon is there.
// `node scripts/pack.mjs [--out DIR] [--all]`. Every platform package becomes an optional dependency of the facade; those that are packed here alone
// (`local`) only where they were, since the others can't be installed from anywhere. With `--all` a missing addon is an error.
import { existsSync } from 'node:fs';
import { copyFile, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { platforms as platformNames, root } from './lib/paths.mjs';
import { run, say, script, StepError } from './lib/run.mjs';

/**
 * @param {string} out folder for the tarballs
 * @param {{ local?: boolean, only?: string }} [options] `only` one platform
 * @returns {Promise<{ facade: string, platforms: string[] }>} the tarballs
 */
export async function pack(out, { local = false, only } = {}) {
  await mkdir(out, { recursive: true });
  const work = await mkdtemp(join(tmpdir(), 'smartregistry-pack-'));
  try {
    const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
    const optional = {};
    const platforms = [];
    for (const name of platformNames) {
      const addon = `smartregistry.${name}.node`;
      const there = existsSync(join(root, addon)) && (only ?? name) === name;
      if (!local || there) optional[`smartregistry-native-${name}`] = manifest.version;
      if (!there) continue;
      const folder = join(work, name);
      await cp(join(root, 'npm', name), folder, { recursive: true });
      await copyFile(join(root, addon), join(folder, addon));
      await copyFile(join(root, 'LICENSE'), join(folder, 'LICENSE'));
      platforms.push(await tarball(folder, out, manifest.version));
    }
    if (platforms.length === 0) throw new StepError('there is no addon to pack; build it first: npm run build');
    const facade = join(work, 'facade');
    await mkdir(facade);
    for (const file of [...manifest.files, 'README.md', 'LICENSE']) await cp(join(root, file), join(facade, file), { recursive: true });
    const { devDependencies: _dev, scripts: _scripts, ...published } = manifest;
    await writeFile(join(facade, 'package.json'), `${JSON.stringify({ ...published, optionalDependencies: optional }, undefined, 2)}\n`);
    return { facade: await tarball(facade, out, manifest.version), platforms };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function tarball(folder, out, version) {
  const { version: own } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
  if (own !== version) throw new StepError(`${folder} has version ${own}, not ${version}`);
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', out, folder]);
  return join(out, JSON.parse(stdout)[0].filename);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await script(async () => {
    const { values } = parseArgs({ options: { out: { type: 'string', default: '.' }, all: { type: 'boolean', default: false } } });
    const missing = platformNames.filter((name) => !existsSync(join(root, `smartregistry.${name}.node`)));
    if (values.all && missing.length) throw new StepError(`there is no addon for ${missing.join(', ')}`);
    const { facade, platforms } = await pack(resolve(values.out));
    for (const file of [...platforms, facade]) say(file);
  });
}
