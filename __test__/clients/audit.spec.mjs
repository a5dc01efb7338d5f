// The other clients' audits: yarn 4, bun and deno are told of the vulnerability that the registry knows of. (Yarn 1 asks a host of its own.)
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { few, matrix } from '../support/matrix.mjs';
import { npmrc, people } from '../support/npm-config.mjs';
import { config } from '../support/npm-manage.mjs';
import { write, writePackage, writeProject } from '../support/packages.mjs';
import { run } from '../support/process.mjs';

const programs = { npm: await client('npm'), yarn: await client('yarn-berry'), bun: await client('bun'), deno: await client('deno') };

const start = (site, program, args, cwd, env = {}) =>
  run([...programs[program].argv, ...args], { cwd, env: { ...site.as('owner'), YARN_NPM_MINIMAL_AGE_GATE: '0', YARN_GLOBAL_FOLDER: join(site.box.home, 'yarn'), ...env } });

const setUp = async (site) => {
  await people(site, (url, token) => ({
    '.npmrc': npmrc(url, token),
    '.yarnrc.yml': `npmRegistryServer: "${url}"\nnpmAuditRegistry: "${url}"\nunsafeHttpWhitelist: ["127.0.0.1"]\nnodeLinker: node-modules\nenableTelemetry: false\n`,
  }));
  const made = await writePackage(await site.box.folder('weak'), { name: 'weak', version: '1.0.0' });
  (await start(site, 'npm', ['publish'], made.folder)).ok();
};

matrix('audits', { storages: few, protocol: 'npm', config, setUp }, (step) => {
  const projectOf = async (site, folder) => {
    const project = await site.box.folder(folder);
    await writeProject(project, { weak: '1.0.0' });
    return project;
  };

  step('yarn 4 is told', async (site) => {
    const project = await projectOf(site, 'berry');
    await write(project, { 'yarn.lock': '' });
    (await start(site, 'yarn', ['install'], project)).ok();
    (await start(site, 'yarn', ['npm', 'audit'], project)).refused(/weak is too weak/);
  });

  step('bun is told', async (site) => {
    const project = await projectOf(site, 'bun');
    (await start(site, 'bun', ['install'], project)).ok();
    (await start(site, 'bun', ['audit'], project)).refused(/weak is too weak/);
  });

  step('deno is told', async (site) => {
    const project = await projectOf(site, 'deno');
    await write(project, { 'deno.json': '{ "nodeModulesDir": "auto" }' });
    const env = { DENO_DIR: join(site.box.home, 'deno') };
    (await start(site, 'deno', ['install', '--minimum-dependency-age=0'], project, env)).ok();
    (await start(site, 'deno', ['audit'], project, env)).refused(/weak is too weak/);
  });
});
