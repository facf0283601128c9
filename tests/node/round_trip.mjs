// What an application does with the Node SDK: connect, create, insert, search, query, upsert, delete, partitions, drop.
import assert from 'node:assert/strict';
import { DataType, ErrorCode, MilvusClient } from '@zilliz/milvus2-sdk-node';

const client = new MilvusClient({ address: process.argv[2] });
await client.connectPromise;

const ok = response => {
  const status = response.status ?? response;
  assert.equal(status.error_code, ErrorCode.SUCCESS, JSON.stringify(status));
  return response;
};
const vector = value => [value, value, value, value];

const version = ok(await client.getVersion());
assert.match(version.version, /shoaldb/);
// A role that does not answer within some seconds counts as ill: on a busy machine it is asked again.
let health;
for (let attempt = 0; attempt < 20 && !health?.isHealthy; attempt++) health = await client.checkHealth();
assert.equal(health.isHealthy, true, JSON.stringify(health));

const schema = [
  { name: 'id', data_type: DataType.Int64, is_primary_key: true },
  { name: 'name', data_type: DataType.VarChar, max_length: 64 },
  { name: 'price', data_type: DataType.Double, nullable: true },
  { name: 'vector', data_type: DataType.FloatVector, dim: 4 },
];
const collection_name = 'items';
ok(await client.createCollection({ collection_name, fields: schema, enable_dynamic_field: true }));
assert.equal((await client.hasCollection({ collection_name })).value, true);
assert.equal((await client.hasCollection({ collection_name: 'nobody' })).value, false);
ok(await client.createIndex({ collection_name, field_name: 'vector', index_type: 'FLAT', metric_type: 'L2' }));
ok(await client.loadCollectionSync({ collection_name }));
const described = ok(await client.describeCollection({ collection_name }));
assert.deepEqual(described.schema.fields.map(field => field.name), ['id', 'name', 'price', 'vector']);

const data = Array.from({ length: 10 }, (_, i) => ({
  id: i, name: `n${i}`, price: i % 2 ? i / 2 : null, vector: vector(i), color: i < 5 ? 'red' : 'blue',
}));
assert.equal(Number(ok(await client.insert({ collection_name, data })).insert_cnt), 10);

const found = ok(await client.search({
  collection_name, data: vector(3), limit: 2, filter: 'color == "red"', output_fields: ['name', 'price', 'color'],
}));
assert.equal(found.results[0].name, 'n3');
assert.equal(found.results[0].color, 'red');
assert.equal(found.results[0].price, 1.5);

let rows = ok(await client.query({ collection_name, filter: 'price is null', output_fields: ['id', 'name'] })).data;
assert.deepEqual(rows.map(row => Number(row.id)), [0, 2, 4, 6, 8]);
rows = ok(await client.get({ collection_name, ids: [7], output_fields: ['name'] })).data;
assert.equal(rows[0].name, 'n7');

ok(await client.upsert({ collection_name, data: [{ id: 7, name: 'seven', price: 7, vector: vector(7) }] }));
ok(await client.delete({ collection_name, ids: [0] }));
ok(await client.delete({ collection_name, filter: 'id in [1]' }));
assert.equal(Number((await client.count({ collection_name })).data), 8);
rows = ok(await client.query({ collection_name, filter: 'name == "seven"', output_fields: ['id'] })).data;
assert.equal(Number(rows[0].id), 7);

ok(await client.createPartition({ collection_name, partition_name: 'p' }));
assert.equal((await client.hasPartition({ collection_name, partition_name: 'p' })).value, true);
ok(await client.createAlias({ collection_name, alias: 'things' }));
assert.equal(Number((await client.count({ collection_name: 'things' })).data), 8);
ok(await client.dropAlias({ alias: 'things' }));
ok(await client.flushSync({ collection_names: [collection_name] }));
const statistics = ok(await client.getCollectionStatistics({ collection_name }));
assert.equal(Number(statistics.data.row_count), 8);
ok(await client.createDatabase({ db_name: 'shop' }));
assert.deepEqual([...(await client.listDatabases()).db_names].sort(), ['default', 'shop']);
ok(await client.dropDatabase({ db_name: 'shop' }));

const refused = await client.createRole({ roleName: 'reader' });
assert.equal(refused.reason, 'CreateRole is not supported yet by ShoalDB');
ok(await client.releaseCollection({ collection_name }));
ok(await client.dropCollection({ collection_name }));
assert.equal((await client.hasCollection({ collection_name })).value, false);
await client.closeConnection();
console.log('the round trip is done');
