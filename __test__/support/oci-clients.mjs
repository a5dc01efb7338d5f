// What the OCI clients know about a registry and about who they are, and the images they carry.
import { join } from 'node:path';
import { password } from './matrix.mjs';
import { image, index, loginFile, noise, writeLayout } from './oci.mjs';
import { write } from './packages.mjs';

/**
 * Makes the homes of `owner` (alice with her password), `reader` (a token that may only pull from `team/…`), `liar` (a wrong password), `nobody` and
 * `fresh` (logged in nowhere), puts `site.as(person)` on the site, and the images `site.small`, `site.big` and `site.multi` with their layouts.
 */
export async function peopleAndImages(site) {
  const { host } = site.registry;
  const readerToken = await site.registry.createToken('alice', 'oci', '--scope', 'oci:repository:team/*:pull');
  const logins = {
    owner: loginFile(host, 'alice', password),
    reader: loginFile(host, 'alice', readerToken),
    liar: loginFile(host, 'alice', 'guessed'),
    nobody: loginFile(host),
    fresh: loginFile(host),
  };
  const homeOf = (person) => join(site.box.home, person);
  for (const [person, login] of Object.entries(logins)) await write(homeOf(person), { '.docker/config.json': login });
  site.authFile = (person) => join(homeOf(person), '.docker/config.json');
  site.as = (person) => ({
    ...site.box.env,
    HOME: homeOf(person),
    XDG_CONFIG_HOME: join(homeOf(person), '.config'),
    DOCKER_CONFIG: join(homeOf(person), '.docker'),
    REGISTRY_AUTH_FILE: site.authFile(person),
  });

  await images(site);
}

/** Makes the images `site.small`, `site.big` and `site.multi` in the site's box, as layouts of which `site.layout(name)` is the folder. */
export async function images(site) {
  site.small = await image([{ 'etc/hello': 'hello\n' }, { 'etc/world': 'wörld\n', 'usr/bin/tool': noise(40_000, 'tool') }]);
  // Several chunks of every transport, and more than one part of a multipart upload.
  site.big = await image([{ 'data/big.bin': noise(12_000_000, 'big') }, { 'etc/small': 'x' }]);
  const arm = await image([{ 'etc/hello': 'hello arm\n' }], { architecture: 'arm64' });
  site.multi = index([site.small, arm]);
  for (const name of ['small', 'big', 'multi']) await writeLayout(await site.box.folder(`layouts/${name}`), site[name], name);
  site.layout = (name) => join(site.box.dir, 'layouts', name);
}
