// The clients that install npm packages, each told in its own way where the registry is and that the age of a version does not matter, unless that is asked.
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { npmrc } from './npm-config.mjs';
import { write, writeProject } from './packages.mjs';
import { run } from './process.mjs';

const files = (url) => ({
  '.npmrc': npmrc(url),
  '.yarnrc': `registry "${url}"\ndisable-self-update-check true\n`,
  '.yarnrc.yml': [
    `npmRegistryServer: "${url}"`,
    `npmAuditRegistry: "${url}"`,
    'unsafeHttpWhitelist: ["127.0.0.1"]',
    'nodeLinker: node-modules',
    'enableTelemetry: false',
    'httpRetry: 0',
    '',
  ].join('\n'),
});

const pnpm = {
  install: ['install'],
  project: ({ anyAge }) => ({ 'pnpm-workspace.yaml': `packages: []\nfetchRetries: 0\n${anyAge ? 'minimumReleaseAge: 0\n' : ''}` }),
};

/** What each needs to install: arguments, and what lies in a project or stands in the environment beside the usual. */
const kinds = {
  npm: { install: ['install', '--no-audit'] },
  'pnpm-10': pnpm,
  'pnpm-11': pnpm,
  'pnpm-12': pnpm,
  // For root its home is a folder of the whole machine, unless root is not a real one.
  'yarn-classic': { install: ['install'], env: () => ({ FAKEROOTKEY: '1' }) },
  'yarn-berry': {
    install: ['install'],
    project: () => ({ 'yarn.lock': '' }),
    env: (home, { anyAge }) => ({ YARN_GLOBAL_FOLDER: join(home, 'yarn'), ...(anyAge ? { YARN_NPM_MINIMAL_AGE_GATE: '0' } : {}) }),
  },
  bun: { install: ['install'] },
  deno: {
    install: ['install'],
    anyAge: ['--minimum-dependency-age=0'],
    project: () => ({ 'deno.json': '{ "nodeModulesDir": "auto" }' }),
    env: (home) => ({ DENO_DIR: join(home, 'deno'), DENO_NO_UPDATE_CHECK: '1' }),
  },
};

/**
 * @param {string} name of a client
 * @param {{ dir: string, home: string, env: Record<string, string>, folder: (name: string) => Promise<string> }} box
 * @param {string} url of the registry
 * @param {{ anyAge?: boolean }} [options]
 */
export async function reader(name, box, url, options = { anyAge: true }) {
  const { argv } = await client(name);
  const kind = kinds[name];
  let homes = 0;
  let home;
  /** A home that has cached nothing. */
  const afresh = async () => {
    home = join(box.home, `${name}-${(homes += 1)}`);
    await write(home, files(url));
  };
  await afresh();
  const env = () => ({
    ...box.env,
    HOME: home,
    XDG_CONFIG_HOME: join(home, '.config'),
    XDG_CACHE_HOME: join(home, '.cache'),
    XDG_DATA_HOME: join(home, '.local/share'),
    ...kind.env?.(home, options),
  });
  return {
    afresh,
    run: (args, cwd) => run([...argv, ...args], { cwd, env: env() }),
    install: (cwd, more = []) => run([...argv, ...kind.install, ...more, ...(options.anyAge ? kind.anyAge ?? [] : [])], { cwd, env: env() }),
    /** @returns {Promise<string>} the folder */
    async project(folder, dependencies) {
      const project = await box.folder(`${folder}-${name}`);
      await writeProject(project, dependencies);
      await write(project, kind.project?.(options) ?? {});
      return project;
    },
  };
}
