// `npm run pack:local [-- DIR]`: builds what is missing, packs the package and its addon for this platform into DIR (`packed`), and says how to install them.
// The addon is built as `npm start` builds it; SMARTREGISTRY_BUILD_PROFILE=release makes it as the published ones are.
import { relative, resolve } from 'node:path';
import { build } from './build.mjs';
import { nodeModules } from './lib/node-modules.mjs';
import { platformName } from './lib/paths.mjs';
import { script, StepError } from './lib/run.mjs';
import { pack } from './pack.mjs';

await script(async () => {
  const [dir = 'packed', ...more] = process.argv.slice(2);
  if (more.length) throw new StepError('name one folder: npm run pack:local -- DIR');
  await nodeModules({ dev: false });
  await build(process.env.SMARTREGISTRY_BUILD_PROFILE || 'release-fast');
  const { facade, platforms: [platform] } = await pack(resolve(dir), { local: true, only: platformName() });
  const here = (file) => relative(process.cwd(), file);
  console.log(`${here(facade)}\n${here(platform)}\n`);
  console.log('In your project, with the two under whatever path they have from there:');
  console.log(`  npm install ${facade} ${platform}`);
  console.log(`  npm install @push.rocks/smartregistry@file:${facade} ${platform}     # in place of that package`);
});
