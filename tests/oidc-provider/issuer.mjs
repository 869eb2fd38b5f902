// A certified OpenID provider (panva/node-oidc-provider) on the loopback, for tests.
//
//   node issuer.mjs FOLDER PORT KID
//
// FOLDER has node_modules. Two issuers share one set of new keys, with KID in their ids: the one at PORT, and one
// at a port of its own, whose tokens differ from the first one's in nothing but `iss`. Prints a line of JSON with
// the address of each when both listen. `POST /clock` with a number moves the clock of both by so many seconds.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, port, kid] = [process.argv[2], Number(process.argv[3]), process.argv[4]];
const library = join(folder, 'node_modules', 'oidc-provider', 'lib', 'index.js');
const { default: Provider } = await import(pathToFileURL(library).href);

const OURS = 'airberg'; // the audience of our API
const OURS_URI = 'https://airberg.example/api'; // RFC 8707 wants a URI; the audience may be any string
const OTHERS = 'https://other.example/api';
const OPAQUE = 'https://opaque.example/api';
const REDIRECT = 'http://127.0.0.1:9999/callback'; // nobody listens there: the test reads the code off the URL

const now = Date.now;
let skew = 0;
Date.now = () => now() + skew;

const signing = (alg, options) => ({
  ...generateKeyPairSync(alg.startsWith('ES') ? 'ec' : 'rsa', options).privateKey.export({ format: 'jwk' }),
  kid: `${kid}-${alg}`,
  alg,
  use: 'sig',
});
const keys = [
  signing('RS256', { modulusLength: 2048 }),
  signing('RS384', { modulusLength: 2048 }),
  signing('ES256', { namedCurve: 'P-256' }),
];

const users = {
  alice: { email: 'alice@example.com', email_verified: true, groups: ['sales'] },
  bob: { email: 'bob@example.com', email_verified: true, groups: ['sales', 'hr'] },
  mallory: { email: 'alice@example.com', email_verified: false, groups: [] },
  root: { email: 'root@example.com', email_verified: true, roles: ['ingest-admin'], groups: [] },
};

const program = (client_id, scope) => ({
  client_id,
  client_secret: 's3cret',
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
  scope,
});
const ALL = 'ingest:read ingest:write keys:admin';
const algorithms = { 'signs-es256': 'ES256', 'signs-rs384': 'RS384', 'signs-hs256': 'HS256' };

function provider(issuer) {
  return new Provider(issuer, {
    jwks: { keys },
    clients: [
      program('loader', 'ingest:read ingest:write'),
      program('reader', 'ingest:read'),
      ...Object.keys(algorithms).map((name) => program(name, 'ingest:read')),
      {
        client_id: OURS, // as the audience: nothing but its claims tells its ID tokens from access tokens
        token_endpoint_auth_method: 'none',
        grant_types: ['authorization_code'],
        response_types: ['code'],
        redirect_uris: [REDIRECT],
        application_type: 'native',
        id_token_signed_response_alg: 'RS256',
      },
    ],
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256'] },
    cookies: { keys: [randomBytes(16).toString('hex')] },
    scopes: ['openid', 'email', ...ALL.split(' ')],
    claims: { openid: ['sub'], email: ['email', 'email_verified'] },
    findAccount: (_, id) => ({ accountId: id, claims: async () => ({ sub: id, ...users[id] }) }),
    extraTokenClaims: (_, token) => (token.accountId ? users[token.accountId] : undefined),
    pkce: { required: () => true },
    ttl: { AccessToken: 600, ClientCredentials: 600, Grant: 3600, IdToken: 600, Interaction: 600, Session: 600 },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => OURS_URI,
        useGrantedResource: () => true,
        getResourceServerInfo: (context, resource) => ({
          scope: ALL,
          audience: resource === OURS_URI ? OURS : resource,
          accessTokenFormat: resource === OPAQUE ? 'opaque' : 'jwt',
          accessTokenTTL: 600,
          jwt: { sign: how(context.oidc.client?.clientId) },
        }),
      },
    },
  });
}

function how(client) {
  const alg = algorithms[client] ?? 'RS256';
  return alg === 'HS256' ? { alg, key: Buffer.alloc(32, 7), kid: keys[0].kid } : { alg, kid: `${kid}-${alg}` };
}

async function listen(wanted) {
  let handle = null;
  const server = createServer((request, response) => {
    if (request.url !== '/clock') return handle(request, response);
    let body = '';
    request.on('data', (part) => (body += part));
    request.on('end', () => {
      skew = Number(body) * 1000;
      response.end('ok');
    });
  });
  await new Promise((resolve, reject) => {
    server.once('error', reject); // the port may have become somebody else's
    server.listen(wanted, '127.0.0.1', resolve);
  });
  const issuer = `http://127.0.0.1:${server.address().port}`;
  handle = provider(issuer).callback();
  return issuer;
}

const issuer = await listen(port);
const other = await listen(0);
console.log(JSON.stringify({ issuer, other, audiences: { others: OTHERS, opaque: OPAQUE } }));
