// pnpm, yarn and bun: what they do when the registry asks for a one-time pass, and publishing from a trusted build.
import { join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { call, enrol, person } from '../support/accounts.mjs';
import { issuer } from '../support/authenticator.mjs';
import { few, matrix, password } from '../support/matrix.mjs';
import { npmrc, people } from '../support/npm-config.mjs';
import { write, writePackage } from '../support/packages.mjs';
import { run } from '../support/process.mjs';

const builds = issuer('https://token.ci.example.com');

const config = (usual) => ({
  ...usual,
  auth: { ...usual.auth, trustedIssuers: [{ issuer: 'https://token.ci.example.com', type: 'github', audience: 'npm:127.0.0.1', jwks: builds.jwks }] },
});

const rc = (url, token) => ({ '.npmrc': npmrc(url, token) });
const berryRc = (url, token) => ({
  '.yarnrc.yml': [
    `npmRegistryServer: "${url}"`,
    ...(token ? [`npmAuthToken: "${token}"`, 'npmAlwaysAuth: true'] : []),
    'unsafeHttpWhitelist: ["127.0.0.1"]',
    'nodeLinker: node-modules',
    'enableTelemetry: false',
    'httpRetry: 0',
    '',
  ].join('\n'),
});

/** How each client publishes, what it says when a code is missing, and whether it exchanges identity tokens. */
const clients = {
  'pnpm-10': { files: rc, publish: () => ['publish', '--no-git-checks'], missing: /EOTP|one-time pass/i },
  'pnpm-12': { files: rc, publish: () => ['publish', '--no-git-checks'], missing: /one-time pass|OTP/i, trusted: true },
  'yarn-classic': {
    files: (url, token) => ({ '.npmrc': npmrc(url, token), '.yarnrc': `registry "${url}"\ndisable-self-update-check true\n` }),
    publish: (version) => ['publish', '--non-interactive', '--no-git-tag-version', '--new-version', version],
    missing: /Two factor authentication enabled/,
  },
  'yarn-berry': { files: berryRc, publish: () => ['npm', 'publish'], install: true, missing: /YN0033.*requires additional authentication/, trusted: true },
  bun: { files: rc, publish: () => ['publish'], missing: /one-time pass|OTP|one time/i },
};

for (const [name, { files, publish, install, missing, trusted }] of Object.entries(clients)) {
  const { argv } = await client(name);

  const setUp = async (site) => {
    await people(site, files);
    for (const user of ['bob', 'frank']) site[user] = await person(site, user, files);
  };

  const start = (site, args, { cwd, as = 'owner', env = {}, ...more }) =>
    run([...argv, ...args], { cwd, env: { ...site.as(as), YARN_GLOBAL_FOLDER: join(site.box.home, 'yarn'), ...env }, ...more });

  matrix(`${name} accounts`, { storages: few, modes: ['listener'], protocol: 'npm', config, setUp }, (step) => {
    const made = async (site, manifest) => {
      const { folder } = await writePackage(await site.box.folder(`${manifest.name}-${manifest.version}`), manifest);
      if (install) {
        // An empty lock file makes a folder a project of its own.
        await write(folder, { 'yarn.lock': '' });
        (await start(site, ['install'], { cwd: folder })).ok();
      }
      return folder;
    };

    step('is asked for a one-time pass, and publishes with one', async (site) => {
      const { app, recovery } = await enrol(site, site.frank, 'auth-and-writes');
      const cwd = await made(site, { name: 'safe', version: '1.0.0' });
      (await start(site, publish('1.0.0'), { cwd, as: 'frank' })).refused(missing);
      (await start(site, [...publish('1.0.0'), `--otp=${await app.code()}`], { cwd, as: 'frank' })).ok();
      await call(site, site.frank, 'POST', '-/npm/v1/user', { tfa: { password, mode: 'disable' } }, { 'npm-otp': recovery[0] });
      const next = await made(site, { name: 'safe', version: '1.1.0' });
      (await start(site, publish('1.1.0'), { cwd: next, as: 'frank' })).ok();
    });

    if (!trusted) return;
    step('publishes from a trusted build', async (site) => {
      (await start(site, publish('1.0.0'), { cwd: await made(site, { name: 'built', version: '1.0.0' }), as: 'bob' })).ok();
      const claims = { repository: 'acme/built', workflow_ref: { file: 'release.yml' } };
      await call(site, site.bob, 'POST', '-/package/built/trust', [{ type: 'github', claims, permissions: ['createPackage'] }]);
      const token = (repository) =>
        builds.token({ aud: 'npm:127.0.0.1', repository, workflow_ref: `${repository}/.github/workflows/release.yml@refs/heads/main` });
      const build = (repository) => ({ as: 'nobody', env: { ...service, CI: 'true', NPM_ID_TOKEN: token(repository) } });
      // Of GitHub yarn berry wants the token by a request; of GitLab it takes this variable.
      const service = install ? { GITLAB_CI: 'true' } : { GITHUB_ACTIONS: 'true' };
      const cwd = await made(site, { name: 'built', version: '1.1.0' });
      (await start(site, publish('1.1.0'), { cwd, ...build('evil/built') })).refused(/401|auth|log in|logged in/i);
      (await start(site, publish('1.1.0'), { cwd, ...build('acme/built') })).ok();
    });
  });
}
